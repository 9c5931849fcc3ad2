import { ArgumentError, ShapeError, describeValue } from '../../util/errors.js';
import { expectNumber, expectRank, expectShape, formatShape, type Operand, type Tensor } from '../../tensor/index.js';
import { largestStateSize, type SsdSizes } from './plan.js';

/** What `ssd` and `ssdStep` have in common. */
export interface SsdStepOptions {
  /** G, how many groups of heads share their B and C; default 1. */
  readonly groups?: number | undefined;
  /** Skip weight f32, for each head [H] or each feature [H·P]: adds D·x to y. */
  readonly D?: Tensor | null | undefined;
  /** Gate, of x's shape, f32 or f16: y is multiplied by silu(z). */
  readonly z?: Tensor | null | undefined;
  /** [H] f32, added to delta first. */
  readonly deltaBias?: Tensor | null | undefined;
  /** Whether Δ = softplus(delta + deltaBias) instead of delta + deltaBias. */
  readonly deltaSoftplus?: boolean | undefined;
  /** The least and the largest Δ: others are set to the limit, and no gradient goes through them. Default: no limits. */
  readonly deltaLimits?: readonly [least: number, largest: number] | undefined;
}

export interface SsdInputs {
  readonly x: Tensor;
  readonly delta: Tensor;
  readonly A: Tensor;
  readonly B: Tensor;
  readonly C: Tensor;
}

/** float32's largest number: a limit that is none. */
const unlimited = 3.4028234663852886e38;

/**
 * Checks what a sequence and a step share.
 * @returns the sizes, and the kernels' parameters that follow from the operands
 * @throws ShapeError, ArgumentError
 */
export function checkSsdOperands(operation: string, { x, delta, A, B, C }: SsdInputs, options: SsdStepOptions, symbols: 'B,L' | 'B') {
  const { groups = 1, D = null, z = null, deltaBias = null, deltaSoftplus = false, deltaLimits } = options;
  expectRank(operation, 'x', x.shape, symbols === 'B' ? 2 : 3, `[${symbols},H·P]`);
  expectRank(operation, 'A', A.shape, 1, '[H]');
  for (const [argument, tensor] of Object.entries({ x, A, B })) {
    if (tensor.shape.includes(0)) throw new ArgumentError({ operation, argument, expected: 'no extent of 0', got: formatShape(tensor.shape) });
  }
  const steps = x.shape.slice(0, -1);
  const [batch = 0, length = 1] = steps;
  const heads = A.columns;
  const shapeError = (argument: string, expected: string, got: Tensor) =>
    new ShapeError({ operation, argument, expected, got: formatShape(got.shape) });
  if (x.columns % heads !== 0) throw shapeError('x', `[${symbols},H·P], a multiple of the ${heads} heads that A has`, x);
  const headSize = x.columns / heads;
  expectNumber(operation, 'groups', groups, (n) => Number.isInteger(n) && n > 0 && heads % n === 0, `a divisor of the ${heads} heads that A has`);
  if (B.columns % groups !== 0) throw shapeError('B', `[${symbols},G·N], a multiple of the ${groups} groups`, B);
  const stateSize = B.columns / groups;
  const weights = [...steps, groups * stateSize];
  expectShape(operation, 'delta', delta.shape, [...steps, heads], `[${symbols},H]`, 'H is the extent of A');
  expectShape(operation, 'B', B.shape, weights, `[${symbols},G·N]`);
  expectShape(operation, 'C', C.shape, weights, `[${symbols},G·N]`, 'as B');
  if (stateSize > largestStateSize) {
    throw new ArgumentError({ operation, argument: 'B', expected: `at most ${largestStateSize} states (N)`, got: `N = ${stateSize}` });
  }
  if (D && !(D.rank === 1 && (D.columns === heads || D.columns === x.columns))) throw shapeError('D', `[H] = [${heads}] or [H·P] = [${x.columns}]`, D);
  if (z) expectShape(operation, 'z', z.shape, x.shape, `[${symbols},H·P]`, 'as x');
  if (deltaBias) expectShape(operation, 'deltaBias', deltaBias.shape, [heads], '[H]');
  const [least, largest] = deltaLimits ?? [-Infinity, Infinity];
  // Also where one is NaN.
  if (!(least <= largest)) {
    throw new ArgumentError({ operation, argument: 'deltaLimits', expected: '[least, largest] with least ≤ largest', got: describeValue(deltaLimits) });
  }
  const sizes: SsdSizes = { batch, length, heads, headSize, groups, stateSize };
  const parameters = {
    ...{ xPitch: x.pitch, deltaPitch: delta.pitch, zPitch: z?.pitch ?? 0, bPitch: B.pitch, cPitch: C.pitch },
    ...{ skipByFeature: D !== null && D.columns === x.columns, softplus: deltaSoftplus },
    ...{ deltaLeast: Math.max(least, -unlimited), deltaLargest: Math.min(largest, unlimited) },
  };
  return { sizes, parameters };
}

/** The tensors that a sequence and a step share, and the dtypes that they may have. */
export function ssdOperands({ x, delta, A, B, C }: SsdInputs, options: SsdStepOptions): Record<string, Operand> {
  return {
    ...{ x: [x, 'float'], delta: [delta, 'float'], A: [A, 'f32'], B: [B, 'float'], C: [C, 'float'] },
    ...{ D: [options.D, 'f32?'], z: [options.z, 'float?'], deltaBias: [options.deltaBias, 'f32?'] },
  };
}
