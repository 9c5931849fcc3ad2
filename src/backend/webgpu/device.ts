import { platform } from '#platform';
import type { GpuFeatures } from '../../tensor/index.js';
import { BackendError } from '../../util/errors.js';

/** A device and what kernels may use of it. */
export interface GpuDevice {
  readonly device: GPUDevice;
  readonly features: GpuFeatures;
  /** Vendor, model and features, for people. */
  readonly description: string;
  readonly timestamps: boolean;
}

/** Dawn in Node corrupts its heap when an adapter is collected: they stay for the life of the process. */
const adapters: GPUAdapter[] = [];

/** Fewer buffers a dispatch than this and the kernels do not fit. Every known adapter has 10 or more. */
const leastStorageBuffers = 10;

/** Optional features that kernels or the profile make use of. */
const wanted = ['shader-f16', 'subgroups', 'timestamp-query', 'chromium-experimental-subgroup-matrix'];

/**
 * Asks for the fastest adapter and a device with everything it has.
 * @throws BackendError when there is no WebGPU, no adapter, or one too small
 */
export async function openGpuDevice(): Promise<GpuDevice> {
  const loaded = await platform.loadGpu();
  if ('reason' in loaded) throw new BackendError(`openBackend: there is no WebGPU here: ${loaded.reason}`);
  const adapter = await (loaded.gpu as GPU).requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) {
    throw new BackendError(
      'openBackend: WebGPU has no adapter. Hint: a Vulkan, Metal or Direct3D 12 driver is needed; a headless browser may need ' +
        '--enable-unsafe-webgpu',
    );
  }
  adapters.push(adapter);
  const { limits, info } = adapter;
  if (limits.maxStorageBuffersPerShaderStage < leastStorageBuffers) {
    throw new BackendError(
      `openBackend: the adapter ${info.description} allows ${limits.maxStorageBuffersPerShaderStage} storage buffers a ` +
        `shader; ${leastStorageBuffers} are needed`,
    );
  }
  const requiredFeatures = wanted.filter((name) => adapter.features.has(name)) as GPUFeatureName[];
  const requiredLimits = Object.fromEntries(
    (
      [
        'maxBufferSize',
        'maxStorageBufferBindingSize',
        'maxStorageBuffersPerShaderStage',
        'maxComputeWorkgroupStorageSize',
        'maxComputeInvocationsPerWorkgroup',
        'maxComputeWorkgroupSizeX',
        'maxComputeWorkgroupSizeY',
        'minStorageBufferOffsetAlignment',
      ] as const
    ).map((name) => [name, limits[name]]),
  );
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const features: GpuFeatures = {
    f16: device.features.has('shader-f16'),
    subgroups: device.features.has('subgroups') ? { smallest: info.subgroupMinSize, largest: info.subgroupMaxSize } : null,
    matrices: hasMatrices(device, info),
    workgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
    workgroupSize: device.limits.maxComputeInvocationsPerWorkgroup,
    storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
    bindingBytes: device.limits.maxStorageBufferBindingSize,
  };
  return { device, features, description: describe(info, features), timestamps: device.features.has('timestamp-query') };
}

/** A matrix shape that an adapter multiplies; experimental, so not in the type definitions. */
interface MatrixConfiguration {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function hasMatrices(device: GPUDevice, info: GPUAdapterInfo): boolean {
  if (!device.features.has('chromium-experimental-subgroup-matrix')) return false;
  const configurations = (info as { subgroupMatrixConfigs?: readonly MatrixConfiguration[] }).subgroupMatrixConfigs ?? [];
  return configurations.some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'f16' && resultComponentType === 'f32' && M === 16 && N === 16 && K === 16,
  );
}

function describe(info: GPUAdapterInfo, { f16, subgroups, matrices }: GpuFeatures): string {
  const name = info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(' ') || 'unknown adapter';
  const parts = [
    name,
    f16 ? 'f16' : 'no f16',
    subgroups === null ? 'no subgroups' : `subgroups of ${[...new Set([subgroups.smallest, subgroups.largest])].join('–')}`,
    ...(matrices ? ['matrix units'] : []),
  ];
  return parts.join(', ');
}
