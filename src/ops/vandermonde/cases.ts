import type { Random } from '../../util/random.js';
import { normal, type CaseInput, type OperationCase } from '../cases.js';
import { vandermonde } from './vandermonde.js';

/** Δ·A of systems that decay: real parts in [−0.3, −0.01], imaginary parts up to ±3. */
export function decays(random: Random, shape: readonly number[]): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  const values = Float32Array.from({ length: size }, (_, i) => (i % 2 === 0 ? -0.01 - 0.29 * random.uniform() : 6 * random.uniform() - 3));
  return { shape, values };
}

/** [rows, H, N, L]: lengths below, at and off the vectors' and the GPU's; one state and many; even, odd, and 1. */
export const settings: readonly (readonly [rows: number, features: number, states: number, length: number])[] = [
  [1, 1, 1, 1],
  [2, 3, 5, 2],
  [1, 4, 8, 33],
  [3, 2, 33, 64],
  [2, 5, 4, 131],
];

export const cases: readonly OperationCase[] = settings.flatMap(([rows, features, states, length]) =>
  (['zoh', 'bilinear'] as const).map((discretization): OperationCase => ({
    name: `[rows,H,N,L] = [${rows},${features},${states},${length}], ${discretization}`,
    inputs: (random) => ({ w: normal(random, [rows, features, states, 2]), a: decays(random, [features, states, 2]) }),
    run: (input) => [vandermonde(input('w'), input('a'), length, { discretization })],
    // Angles grow with the length, and their errors with them.
    reductionLength: 4 * length,
  })),
);
