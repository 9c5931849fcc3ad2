import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { integers, normal, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { max } from './max.js';
import { mean, sum } from './reduction.js';

export const cases: readonly OperationCase[] = [
  { name: 'sum of everything', inputs: (random) => ({ x: normal(random, [3, 5, 67]) }), run: (input) => [sum(input('x'))],
    half: ['x'], reductionLength: 1005 },
  ...[0, 1, 2, -1].map((axis): OperationCase => ({
    name: `sum over axis ${axis}`,
    inputs: (random) => ({ x: normal(random, [3, 5, 67]) }),
    run: (input) => [sum(input('x'), axis)],
    half: ['x'],
    reductionLength: 67,
  })),
  { name: 'mean of everything', inputs: (random) => ({ x: normal(random, [4, 33]) }), run: (input) => [mean(input('x'))],
    half: ['x'], reductionLength: 132 },
  { name: 'mean over rows', inputs: (random) => ({ x: normal(random, [100, 130]) }), run: (input) => [mean(input('x'), 0)],
    half: ['x'], reductionLength: 100 },
  { name: 'max of everything', inputs: (random) => ({ x: normal(random, [3, 5, 67]) }), run: (input) => [max(input('x'))] },
  { name: 'max of a number', inputs: (random) => ({ x: normal(random, []) }), run: (input) => [max(input('x'))] },
  ...[0, 1, 2, -1].map((axis): OperationCase => ({
    name: `max over axis ${axis}`,
    inputs: (random) => ({ x: normal(random, [3, 5, 67]) }),
    run: (input) => [max(input('x'), axis)],
  })),
  ...[1, 3, 15, 16, 17, 63, 64, 65, 1000].map((length): OperationCase => ({
    name: `max over rows of ${length}`,
    inputs: (random) => ({ x: normal(random, [4, length]) }),
    run: (input) => [max(input('x'), -1)],
  })),
  {
    name: 'max: equal values, of which the first has the gradient',
    inputs: (random) => ({ x: integersAsFloats(random, [40, 131], 4) }),
    run: (input) => [max(input('x'), 1), max(input('x'), 0), max(input('x'))],
    // Ties have no slope.
    large: true,
  },
  {
    name: 'max: nothing but −∞',
    inputs: () => ({ x: { shape: [2, 37], values: new Float32Array(74).fill(-Infinity) } }),
    run: (input) => [max(input('x'), 1), max(input('x'), 0)],
    large: true,
  },
  {
    name: 'max: gaps between the rows',
    inputs: (random) => ({ x: normal(random, [4, 40]) }),
    run(input) {
      const [, x] = split(input('x'), [3, 37]) as [Tensor, Tensor];
      return [max(x, 1), max(x, 0), max(x)];
    },
  },
];

function integersAsFloats(random: Random, shape: readonly number[], bound: number): CaseInput {
  return { shape, values: Float32Array.from(integers(random, shape, bound).values) };
}
