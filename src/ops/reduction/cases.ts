import { normal, type OperationCase } from '../cases.js';
import { mean, sum } from './reduction.js';

export const cases: readonly OperationCase[] = [
  { name: 'sum of everything', inputs: (random) => ({ x: normal(random, [3, 5, 67]) }), run: (input) => [sum(input('x'))], reductionLength: 1005 },
  ...[0, 1, 2, -1].map((axis): OperationCase => ({
    name: `sum over axis ${String(axis)}`,
    inputs: (random) => ({ x: normal(random, [3, 5, 67]) }),
    run: (input) => [sum(input('x'), axis)],
    reductionLength: 67,
  })),
  { name: 'mean of everything', inputs: (random) => ({ x: normal(random, [4, 33]) }), run: (input) => [mean(input('x'))], reductionLength: 132 },
  { name: 'mean over rows', inputs: (random) => ({ x: normal(random, [100, 130]) }), run: (input) => [mean(input('x'), 0)], reductionLength: 100 },
];
