import { platform } from '#platform';
import { ArgumentError, BackendError, describeProblem } from '../util/errors.js';
import type { Backend, MatmulPrecision } from '../tensor/index.js';
import { CpuBackend } from './cpu/cpu-backend.js';
import { openNativeEngine, type Addon } from './cpu/native-engine.js';
import { openWasmEngine } from './cpu/wasm-engine.js';
import { PlanBackend } from './plan/plan-backend.js';
import { ReferenceBackend } from './reference/reference-backend.js';
import { openGpuDevice } from './webgpu/device.js';
import { WebGpuBackend } from './webgpu/webgpu-backend.js';

export interface BackendOptions {
  /**
   * Which compiled kernels the CPU backend runs: 'native' (the addon), 'wasm', or 'auto': native where they were built for
   * this machine, else wasm. An instruction set's name ('avx512', 'avx2', 'sse2', 'neon') picks those native kernels.
   */
  kernels?: 'auto' | 'native' | 'wasm' | 'avx512' | 'avx2' | 'sse2' | 'neon';
  /**
   * Precision of matrix products: 'f32' (default), or a format that the factors of products with more than 8 rows are rounded
   * to while sums stay float32. 'bf16', of the CPU, is faster where the processor multiplies bfloat16 (AMX, AVX512-BF16);
   * 'f16', of WebGPU, where the GPU has half precision or matrix units. The reference backend rounds to either.
   */
  matmul?: MatmulPrecision;
  /** Threads of the CPU backend; default: the processors this process may use. */
  threads?: number;
  /** Fills new buffers with NaN, so that a kernel that reads what nothing wrote is found out. For tests. */
  poison?: boolean;
}

/** A backend, and why it is not the faster one, if it is not. */
export interface OpenedBackend {
  backend: Backend;
  /** Set when 'auto' had to take the wasm kernels: the reason, for people. */
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
  const poison = options.poison ?? false;
  const matmul = checkedMatmul(kind, options.matmul);
  switch (kind) {
    case 'reference':
      return { backend: new ReferenceBackend({ poison, matmul }), notice: undefined };
    case 'plan':
      return { backend: new PlanBackend(), notice: undefined };
    case 'cpu':
      return openCpu(options.kernels ?? 'auto', checkedThreads(options.threads), { poison, matmul });
    case 'webgpu': {
      const gpu = await openGpuDevice();
      if (matmul === 'f16' && !gpu.features.f16) throw new BackendError(`openBackend: ${gpu.description} has no f16 for matmul 'f16'`);
      return { backend: new WebGpuBackend(gpu, { poison, matmul }), notice: undefined };
    }
    default:
      throw new ArgumentError(
        describeProblem({
          operation: 'openBackend',
          argument: 'kind',
          expected: "'cpu', 'webgpu', 'reference' or 'plan'",
          got: String(kind),
        }),
      );
  }
}

async function openCpu(
  kernels: string,
  threads: number,
  options: { poison: boolean; matmul: MatmulPrecision },
): Promise<OpenedBackend> {
  const wasm = async (notice?: string) => ({ backend: new CpuBackend(await openWasmEngine(threads), options), notice });
  if (kernels === 'wasm') return wasm();
  const loaded = platform.loadAddon();
  if ('reason' in loaded) {
    if (kernels === 'auto') return wasm(`the wasm kernels serve: ${loaded.reason}`);
    throw new BackendError(`openBackend: kernels '${kernels}' cannot run: ${loaded.reason}. Hint: kernels 'wasm' always can`);
  }
  const addon = loaded.addon as Addon;
  const targets = addon.targets();
  const target = kernels === 'auto' || kernels === 'native' ? targets[0] : targets.find((name) => name === kernels);
  if (target === undefined) {
    throw new BackendError(`openBackend: kernels '${kernels}' cannot run on this processor; it runs ${targets.join(', ')}`);
  }
  return { backend: new CpuBackend(openNativeEngine(addon, target, threads), options), notice: undefined };
}

const precisions: Readonly<Record<BackendKind, readonly MatmulPrecision[]>> = {
  cpu: ['f32', 'bf16'],
  webgpu: ['f32', 'f16'],
  reference: ['f32', 'bf16', 'f16'],
  plan: ['f32', 'bf16', 'f16'],
};

function checkedMatmul(kind: BackendKind, matmul: MatmulPrecision = 'f32'): MatmulPrecision {
  const possible = (precisions as Readonly<Record<string, readonly MatmulPrecision[]>>)[kind] ?? [];
  if (possible.length === 0 || possible.includes(matmul)) return matmul;
  const expected = `${possible.map((name) => `'${name}'`).join(' or ')} on ${kind}`;
  throw new ArgumentError(describeProblem({ operation: 'openBackend', argument: 'matmul', expected, got: matmul }));
}

function checkedThreads(threads = platform.processors): number {
  if (Number.isInteger(threads) && threads >= 1 && threads <= 64) return threads;
  throw new ArgumentError(
    describeProblem({ operation: 'openBackend', argument: 'threads', expected: 'an integer from 1 to 64', got: String(threads) }),
  );
}
