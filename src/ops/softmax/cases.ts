import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { logSoftmax, softmax } from './softmax.js';

const operations = { softmax, logSoftmax };

export const cases: readonly OperationCase[] = Object.entries(operations).flatMap(([name, operation]): OperationCase[] => [
  ...[1, 2, 7, 63, 64, 65, 97, 256, 1000].map((columns): OperationCase => ({
    name: `${name} of ${columns}`,
    inputs: (random) => ({ x: normal(random, [2, 3, columns], 3) }),
    run: (input) => [operation(input('x'))],
    half: ['x'],
    reductionLength: columns,
  })),
  {
    name: `${name} of many rows`,
    inputs: (random) => ({ x: normal(random, [700, 130], 2) }),
    run: (input) => [operation(input('x'))],
    reductionLength: 130,
    large: true,
  },
  {
    name: `${name} of a vocabulary`,
    inputs: (random) => ({ x: normal(random, [2, 50_280], 4) }),
    run: (input) => [operation(input('x'))],
    reductionLength: 50_280,
    large: true,
  },
  ...[1e4, -1e4].map((shift): OperationCase => ({
    name: `${name} of logits near ${shift}`,
    inputs: (random) => ({ x: normal(random, [4, 37], 2, shift) }),
    run: (input) => [operation(input('x'))],
    reductionLength: 37,
    // The slope's step is in proportion to the input, too coarse here; smaller logits test the rule.
    large: true,
  })),
  {
    name: `${name} of logits around both −10⁴ and 10⁴`,
    inputs(random) {
      const x = normal(random, [5, 37], 2);
      return { x: { ...x, values: Float32Array.from(x.values, (value) => value + (random.uniform() < 0.5 ? -1e4 : 1e4)) } };
    },
    run: (input) => [operation(input('x'))],
    reductionLength: 37,
    large: true,
  },
  {
    name: `${name} without leading axes`,
    inputs: (random) => ({ x: normal(random, [21]) }),
    run: (input) => [operation(input('x'))],
    reductionLength: 21,
  },
  {
    name: `${name} with gaps between the rows`,
    inputs: (random) => ({ x: normal(random, [6, 40]) }),
    run(input) {
      const [, x] = split(input('x'), [3, 37]) as [Tensor, Tensor];
      return [operation(x)];
    },
    reductionLength: 37,
  },
]);
