import type { Random } from '../../util/random.js';
import { normal, type CaseInput, type OperationCase } from '../cases.js';
import { solve } from './solve.js';

/** Matrices with large elements beside the diagonal: rows must be exchanged. */
function matrices(random: Random, count: number, size: number): CaseInput {
  const { shape, values } = normal(random, [count, size, size], 0.5 / Math.sqrt(size));
  const large = Float32Array.from(values, (value, i) => value + (i % size === (Math.floor(i / size) + 1) % size ? 2 : 0));
  return { shape, values: large };
}

/** [systems, N, K]: sizes at and off the vectors', one column and several blocks of them. */
const settings: readonly (readonly [count: number, size: number, columns: number])[] = [
  [1, 1, 1],
  [3, 2, 5],
  [2, 7, 3],
  [3, 12, 17],
  [2, 9, 40],
];

export const cases: readonly OperationCase[] = [
  ...settings.map(([count, size, columns]): OperationCase => ({
    name: `[systems,N,K] = [${count},${size},${columns}]`,
    inputs: (random) => ({ matrix: matrices(random, count, size), right: normal(random, [count, size, columns]) }),
    run: (input) => [solve(input('matrix'), input('right'))],
    reductionLength: size * size,
  })),
  {
    name: 'one system without leading axes',
    inputs: (random) => ({ matrix: { ...matrices(random, 1, 5), shape: [5, 5] }, right: normal(random, [5, 2]) }),
    run: (input) => [solve(input('matrix'), input('right'))],
    reductionLength: 25,
  },
];
