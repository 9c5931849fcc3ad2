import { platform } from '#platform';
import { ArgumentError, BackendError, describeValue } from '../util/errors.js';
import { nativeBuild, nativeBuildOfAll } from '../util/native-build.js';
import type { Backend, Precision } from '../tensor/index.js';
import { CpuBackend } from './cpu/cpu-backend.js';
import { openNativeEngine, targetNames, type Addon } from './cpu/native-engine.js';
import { openWasmEngine } from './cpu/wasm-engine.js';
import { PlanBackend } from './plan/plan-backend.js';
import { ReferenceBackend } from './reference/reference-backend.js';
import { openGpuDevice } from './webgpu/device.js';
import { WebGpuBackend } from './webgpu/webgpu-backend.js';

export interface BackendOptions {
  /**
   * Which compiled kernels the CPU backend runs: 'native' (the addon), 'wasm', or 'auto': native where they were built for
   * this machine, else wasm. An instruction set's name ('avx512', 'avx2', 'sse2', 'neon') picks those native kernels; an
   * install builds only the best for its processor (docs/cpu.md).
   */
  kernels?: 'auto' | 'native' | 'wasm' | 'avx512' | 'avx2' | 'sse2' | 'neon';
  /**
   * What is computed in. Parameters, sums and the optimiser are float32 whatever it is.
   * - 'f32' (default): float32 throughout.
   * - 'bf16' (cpu, reference): matrix products with more than 8 rows round both factors to bfloat16, and so do
   *   those of `ssd` forward where the processor multiplies bfloat16 (AMX, AVX512-BF16), which makes it faster. Nothing else changes.
   * - 'f16' (webgpu, reference): mixed precision. The same products round their factors to half precision, models keep activations
   *   and their gradients in it, and a trainer scales the loss. It needs a GPU with f16.
   */
  precision?: Precision;
  /** Threads of the CPU backend; default: one for each processor this process may use, natively at most 64, in wasm 16. */
  threads?: number;
  /** Fills new buffers with NaN, so that a kernel that reads what nothing wrote is found out. For tests. */
  poison?: boolean;
}

/** A backend, and why it is not the faster one, if it is not. */
export interface OpenedBackend {
  backend: Backend;
  /** Set when slower kernels serve than this processor could run: the reason, for people. */
  notice: string | undefined;
}

/** What a backend may be opened as. */
export type BackendKind = 'cpu' | 'webgpu' | 'reference' | 'plan';

/**
 * Opens a backend: 'cpu', 'webgpu' (a GPU; in Node through the package `webgpu`, to be installed beside), 'reference' (float64, slow, for comparison) or 'plan' (records launches, computes nothing).
 * @throws ArgumentError for an unknown kind or bad options
 * @throws BackendError when the kernels asked for cannot run here
 */
export async function openBackend(kind: BackendKind = 'cpu', options: BackendOptions = {}): Promise<Backend> {
  return (await openBackendWithNotice(kind, options)).backend;
}

/** `openBackend`, and whether the choice is worth a word to the user. */
export async function openBackendWithNotice(
  kind: BackendKind,
  options: BackendOptions = {},
): Promise<OpenedBackend> {
  checkOptions(options);
  const poison = options.poison ?? false;
  const precision = checkedPrecision(kind, options.precision);
  switch (kind) {
    case 'reference':
      return { backend: new ReferenceBackend({ poison, precision }), notice: undefined };
    case 'plan':
      return { backend: new PlanBackend(), notice: undefined };
    case 'cpu':
      return openCpu(options.kernels ?? 'auto', options.threads, { poison, precision });
    case 'webgpu': {
      const gpu = await openGpuDevice();
      if (precision === 'f16' && !gpu.features.f16) throw new BackendError(`openBackend: ${gpu.description} has no f16 for precision 'f16'`);
      return { backend: new WebGpuBackend(gpu, { poison, precision }), notice: undefined };
    }
    default:
      throw new ArgumentError({
        operation: 'openBackend',
        argument: 'kind',
        expected: "'cpu', 'webgpu', 'reference' or 'plan'",
        got: String(kind),
      });
  }
}

async function openCpu(
  kernels: string,
  threads: number | undefined,
  options: { poison: boolean; precision: Precision },
): Promise<OpenedBackend> {
  const wasm = async (notice?: string) => ({ backend: new CpuBackend(await openWasmEngine(threads), options), notice });
  if (kernels === 'wasm') return wasm();
  const found = findNativeKernels(kernels);
  if ('target' in found) {
    return { backend: new CpuBackend(openNativeEngine(found.addon, found.target, threads), options), notice: found.notice };
  }
  if (kernels === 'auto') return wasm(`the wasm kernels serve: ${found.reason}`);
  throw new BackendError(`openBackend: kernels '${kernels}' cannot run: ${found.reason}. Hint: kernels 'wasm' always can`);
}

const named = (targets: readonly string[]): string => targets.map((name) => targetNames[name] ?? name).join(', ');

/** The native kernels that were asked for ('auto' and 'native': the best), or why there are none. */
function findNativeKernels(kernels: string): { addon: Addon; target: string; notice: string | undefined } | { reason: string } {
  const loaded = platform.loadAddon();
  if ('reason' in loaded) return loaded;
  const addon = loaded.addon as Addon;
  // Of an older version, as after an update without an install.
  if (typeof (addon as Partial<Addon>).processorTargets !== 'function') {
    return { reason: `the native kernels are older than this code (to build them: ${nativeBuild})` };
  }
  const [built, runs] = [addon.targets(), addon.processorTargets()];
  const [bestBuilt, best] = [built[0], runs[0] ?? ''];
  if (kernels === 'auto' || kernels === 'native') {
    if (bestBuilt === undefined) {
      return { reason: `the native kernels were built for another processor, and this one has ${named([best])} at best (to build for it: ${nativeBuild})` };
    }
    const slower = `the ${named([bestBuilt])} kernels serve: this processor has ${named([best])}, but the native kernels were built for another (to build for it: ${nativeBuild})`;
    return { addon, target: bestBuilt, notice: bestBuilt === best ? undefined : slower };
  }
  if (built.includes(kernels)) return { addon, target: kernels, notice: undefined };
  if (runs.includes(kernels)) {
    return { reason: `only ${named(built) || 'those for another processor'} were built (to build all: ${nativeBuildOfAll})` };
  }
  return { reason: `this processor runs ${named(runs)}` };
}

const optionNames: readonly string[] = ['kernels', 'precision', 'threads', 'poison'] satisfies (keyof BackendOptions)[];

function checkOptions(options: BackendOptions): void {
  const fail = (argument: string, expected: string, got: string): never => {
    throw new ArgumentError({ operation: 'openBackend', argument, expected, got });
  };
  const given: unknown = options;
  if (typeof given !== 'object' || given === null) return fail('options', 'an object', describeValue(given));
  const unknown = Object.keys(given).find((name) => !optionNames.includes(name));
  if (unknown !== undefined) fail('options', `some of ${optionNames.join(', ')}`, `given '${unknown}'`);
  const poison: unknown = options.poison;
  if (poison !== undefined && typeof poison !== 'boolean') fail('poison', 'true or false', describeValue(poison));
}

const precisions: Readonly<Record<BackendKind, readonly Precision[]>> = {
  cpu: ['f32', 'bf16'],
  webgpu: ['f32', 'f16'],
  reference: ['f32', 'bf16', 'f16'],
  plan: ['f32', 'bf16', 'f16'],
};

function checkedPrecision(kind: BackendKind, precision: Precision = 'f32'): Precision {
  const possible = (precisions as Readonly<Record<string, readonly Precision[]>>)[kind] ?? [];
  if (possible.length === 0 || possible.includes(precision)) return precision;
  const expected = `${possible.map((name) => `'${name}'`).join(' or ')} on ${kind}`;
  throw new ArgumentError({ operation: 'openBackend', argument: 'precision', expected, got: precision });
}
