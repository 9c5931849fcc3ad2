import { platform } from '#platform';
import { ArgumentError, BackendError, describeProblem } from '../util/errors.js';
import type { Backend, MatmulPrecision } from '../tensor/index.js';
import { CpuBackend } from './cpu/cpu-backend.js';
import { openNativeEngine, type Addon } from './cpu/native-engine.js';
import { openWasmEngine } from './cpu/wasm-engine.js';
import { PlanBackend } from './plan/plan-backend.js';
import { ReferenceBackend } from './reference/reference-backend.js';

export interface BackendOptions {
  /**
   * Which compiled kernels the CPU backend runs: 'native' (the addon), 'wasm', or 'auto': native where they were built for
   * this machine, else wasm. An instruction set's name ('avx512', 'avx2', 'sse2', 'neon') picks those native kernels.
   */
  kernels?: 'auto' | 'native' | 'wasm' | 'avx512' | 'avx2' | 'sse2' | 'neon';
  /**
   * Precision of matrix products: 'f32' (default), or 'bf16', which rounds the factors of products with more than 8 rows to
   * bfloat16 and sums in float32. It is faster where the processor multiplies bfloat16 (AMX, AVX512-BF16); everywhere the
   * rounding is the same.
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

/**
 * Opens a backend: 'cpu', 'reference' (float64, slow, for comparison) or 'plan' (records launches, computes nothing).
 * @throws ArgumentError for an unknown kind or bad options
 * @throws BackendError when the kernels asked for cannot run here
 */
export async function openBackend(kind: 'cpu' | 'reference' | 'plan' = 'cpu', options: BackendOptions = {}): Promise<Backend> {
  return (await openBackendWithNotice(kind, options)).backend;
}

/** `openBackend`, and whether the choice is worth a word to the user. */
export async function openBackendWithNotice(
  kind: 'cpu' | 'reference' | 'plan',
  options: BackendOptions = {},
): Promise<OpenedBackend> {
  const poison = options.poison ?? false;
  const matmul = checkedMatmul(options.matmul);
  switch (kind) {
    case 'reference':
      return { backend: new ReferenceBackend({ poison, matmul }), notice: undefined };
    case 'plan':
      return { backend: new PlanBackend(), notice: undefined };
    case 'cpu':
      return openCpu(options.kernels ?? 'auto', checkedThreads(options.threads), { poison, matmul });
    default:
      throw new ArgumentError(
        describeProblem({ operation: 'openBackend', argument: 'kind', expected: "'cpu', 'reference' or 'plan'", got: String(kind) }),
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

function checkedMatmul(matmul: MatmulPrecision = 'f32'): MatmulPrecision {
  if ((['f32', 'bf16'] as readonly string[]).includes(matmul)) return matmul;
  throw new ArgumentError(
    describeProblem({ operation: 'openBackend', argument: 'matmul', expected: "'f32' or 'bf16'", got: matmul }),
  );
}

function checkedThreads(threads = platform.processors): number {
  if (Number.isInteger(threads) && threads >= 1 && threads <= 64) return threads;
  throw new ArgumentError(
    describeProblem({ operation: 'openBackend', argument: 'threads', expected: 'an integer from 1 to 64', got: String(threads) }),
  );
}
