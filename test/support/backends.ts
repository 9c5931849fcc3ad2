import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { platform } from '#platform';
import type { Addon } from '../../src/backend/cpu/native-engine.js';
import { openBackend, type BackendOptions } from '../../src/backend/open.js';
import { openGpuDevice } from '../../src/backend/webgpu/device.js';
import { WebGpuBackend } from '../../src/backend/webgpu/webgpu-backend.js';
import type { Backend, GpuFeatures } from '../../src/tensor/index.js';

/**
 * The compiled kernels this machine can run: every instruction set of the addon, and wasm. What this processor could run but was
 * not built is named; under CI that is a failure.
 */
export const compiledKernels: readonly NonNullable<BackendOptions['kernels']>[] = [...nativeTargets(), 'wasm'];

function nativeTargets(): NonNullable<BackendOptions['kernels']>[] {
  const loaded = platform.loadAddon();
  if ('addon' in loaded) {
    const addon = loaded.addon as Addon;
    const targets = addon.targets();
    const missing = addon.processorTargets().filter((name) => !targets.includes(name));
    if (missing.length > 0) {
      const problem = `kernels for ${missing.join(', ')} were not built (npm run build:native -- --all)`;
      if (process.env['CI'] === 'true') throw new Error(`CI must test every instruction set: ${problem}`);
      console.warn(`not tested: ${problem}`);
    }
    return targets as NonNullable<BackendOptions['kernels']>[];
  }
  if (process.env['CI'] === 'true') throw new Error(`CI must test the native kernels: ${loaded.reason}`);
  console.warn(`native kernels are not tested: ${loaded.reason}`);
  return [];
}

/** The ways in which backends keep memory: the addon's (wasm where there is none), a wasm module's, arrays. */
export const memoryKinds = ['native', 'wasm', 'reference'] as const;

export const openMemoryKind = (kind: (typeof memoryKinds)[number]): Promise<Backend> =>
  openBackend(kind === 'reference' ? kind : 'cpu', { kernels: kind === 'wasm' ? kind : 'auto', threads: 1, poison: true });

/**
 * Whether WebGPU can be tested here, in software if need be. Where it cannot it says why; under CI that is a failure.
 */
export const gpuIsHere = await (async (): Promise<boolean> => {
  try {
    await (await openBackend('webgpu')).close();
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (process.env['CI'] === 'true') throw new Error(`CI must test WebGPU: ${reason}`, { cause: error });
    console.warn(`WebGPU is not tested: ${reason}`);
    return false;
  }
})();

/** A backend for the tests of a `describe` block, closed after them. Each test must leave no live buffer. */
export const useBackend = (kind: 'cpu' | 'reference' | 'webgpu', options: BackendOptions = {}): (() => Backend) =>
  useOpened(() => openBackend(kind, { poison: true, threads: 2, ...options }));

/** The same, of one of `memoryKinds`. */
export const useMemoryKind = (kind: (typeof memoryKinds)[number]): (() => Backend) => useOpened(() => openMemoryKind(kind));

/** The same, of a GPU of which something else is said than it has. */
export const useChangedGpu = (changes: Partial<GpuFeatures>): (() => Backend) =>
  useOpened(async () => {
    const gpu = await openGpuDevice();
    return new WebGpuBackend({ ...gpu, features: { ...gpu.features, ...changes } }, { poison: true });
  });

/** The same, of any that `open` opens. */
export function useOpened(open: () => Promise<Backend>): () => Backend {
  let backend: Backend | undefined;
  let before = 0;
  beforeAll(async () => {
    backend = await open();
  });
  afterEach(() => {
    const live = backend?.statistics().liveBuffers ?? NaN;
    // What a test that failed has left is not held against those after it.
    const left = live - before;
    before = live;
    expect(left, 'live buffers after the test').toBe(0);
  });
  afterAll(() => backend?.close());
  return () => {
    if (backend === undefined) throw new Error('useBackend: called outside of a test');
    return backend;
  };
}
