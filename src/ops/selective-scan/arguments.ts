import { ArgumentError, describeValue } from '../../util/errors.js';
import { expectRank, expectShape, type Operand, type Shape, type Tensor } from '../../tensor/index.js';
import { largestState } from './plan.js';

/** Ā = exp(ΔA) with B̄ = Δ·B, or with the exact zero-order hold B̄ = (exp(ΔA) − 1)/A·B. */
export type Discretization = 'euler' | 'zoh';

/** What a scan and a step of decoding have in common. */
export interface ScanOptions {
  /** Skip weight [E] f32: adds D·u to y. */
  readonly D?: Tensor | null | undefined;
  /** Gate, of u's shape, f32 or f16: y is multiplied by silu(z). */
  readonly z?: Tensor | null | undefined;
  /** [E] f32, added to delta first. */
  readonly deltaBias?: Tensor | null | undefined;
  /** Whether Δ = softplus(delta + deltaBias) instead of delta + deltaBias. */
  readonly deltaSoftplus?: boolean | undefined;
  /**
   * Time from the position before to each one, [B,L], or [B] of a step, f32, in steps of training: Δ, after bias and softplus, is multiplied
   * by it. For data at irregular times, or of another sampling rate. Default: 1.
   */
  readonly steps?: Tensor | null | undefined;
  /** How Ā and B̄ come from Δ, A and B; default 'euler', as the published checkpoints were trained. */
  readonly discretization?: Discretization | undefined;
}

export interface ScanExtents {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly stateSize: number;
}

/**
 * Checks what scan and step share; `steps` is [B, L] or [B], and `symbols` its letters.
 * @throws ShapeError, ArgumentError
 */
export function checkScanOperands(
  operation: string,
  tensors: { u: Tensor; delta: Tensor; A: Tensor; B: Tensor; C: Tensor },
  options: ScanOptions,
  symbols: 'B,L' | 'B',
): ScanExtents {
  const { u, delta, A, B, C } = tensors;
  expectRank(operation, 'u', u.shape, symbols === 'B' ? 2 : 3, `[${symbols},E]`);
  expectRank(operation, 'A', A.shape, 2, '[E,N]');
  const steps = u.shape.slice(0, -1);
  const channels = u.columns;
  const stateSize = A.columns;
  const [batch = 0, length = 1] = steps;
  expectNonEmpty(operation, 'u', u.shape);
  expectNonEmpty(operation, 'A', A.shape);
  expectShape(operation, 'A', A.shape, [channels, stateSize], '[E,N]', 'E is the last extent of u');
  expectShape(operation, 'delta', delta.shape, u.shape, `[${symbols},E]`, 'as u');
  expectShape(operation, 'B', B.shape, [...steps, stateSize], `[${symbols},N]`, 'N is the last extent of A');
  expectShape(operation, 'C', C.shape, [...steps, stateSize], `[${symbols},N]`, 'N is the last extent of A');
  if (options.D) expectShape(operation, 'D', options.D.shape, [channels], '[E]');
  if (options.z) expectShape(operation, 'z', options.z.shape, u.shape, `[${symbols},E]`, 'as u');
  if (options.deltaBias) expectShape(operation, 'deltaBias', options.deltaBias.shape, [channels], '[E]');
  const { discretization } = options;
  if (stateSize > largestState) {
    throw problem(operation, 'A', `at most ${largestState} states (N)`, `[E,N] = [${A.shape.join(',')}]`);
  }
  if (discretization !== undefined && !['euler', 'zoh'].includes(discretization)) {
    throw problem(operation, 'discretization', "'euler' or 'zoh'", describeValue(discretization));
  }
  return { batch, length, channels, stateSize };
}

/** The tensors that scan and step share, and the dtypes they may have. */
export function scanOperands(tensors: { u: Tensor; delta: Tensor; A: Tensor; B: Tensor; C: Tensor }, options: ScanOptions): Record<string, Operand> {
  const { u, delta, A, B, C } = tensors;
  return {
    u: [u, 'float'],
    delta: [delta, 'float'],
    A: [A, 'f32'],
    B: [B, 'float'],
    C: [C, 'float'],
    D: [options.D, 'f32?'],
    z: [options.z, 'float?'],
    deltaBias: [options.deltaBias, 'f32?'],
  };
}

function expectNonEmpty(operation: string, argument: string, shape: Shape): void {
  if (shape.includes(0)) throw problem(operation, argument, 'no extent of 0', `[${shape.join(',')}]`);
}

function problem(operation: string, argument: string, expected: string, got: string): ArgumentError {
  return new ArgumentError({ operation, argument, expected, got });
}
