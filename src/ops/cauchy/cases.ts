import { normal, type OperationCase } from '../cases.js';
import { decays } from '../vandermonde/cases.js';
import { cauchy } from './cauchy.js';

/** [rows, H, N, L]: even lengths, which have a node at a right angle, odd ones, and 1. */
const settings: readonly (readonly [rows: number, features: number, states: number, length: number])[] = [
  [1, 1, 1, 1],
  [2, 3, 5, 2],
  [1, 4, 8, 33],
  [3, 2, 33, 64],
  [2, 5, 4, 131],
];

export const cases: readonly OperationCase[] = settings.flatMap(([rows, features, states, length]) =>
  (['phase', 'cosine'] as const).map((factor): OperationCase => ({
    name: `[rows,H,N,L] = [${rows},${features},${states},${length}], ${factor}`,
    inputs: (random) => ({ v: normal(random, [rows, features, states, 2]), a: decays(random, [features, states, 2]) }),
    run: (input) => [cauchy(input('v'), input('a'), length, { factor })],
    // Near a resonance, denominators lose digits.
    reductionLength: 32 * states + 4 * length,
  })),
);
