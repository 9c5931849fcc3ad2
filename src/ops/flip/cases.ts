import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { flip } from './flip.js';

export const cases: readonly OperationCase[] = [
  ...[
    [2, 5, 3],
    [1, 1, 7],
    [3, 8, 16],
    [4, 20],
    [2, 3, 2, 4],
  ].map((shape): OperationCase => ({
    name: `x [${shape.join(',')}]`,
    inputs: (random) => ({ x: normal(random, shape) }),
    run: (input) => [flip(input('x'))],
    half: ['x'],
  })),
  {
    name: 'rows with gaps',
    inputs: (random) => ({ both: normal(random, [2, 6, 12]) }),
    run: (input) => (split(input('both'), [8, 4]) as [Tensor, Tensor]).map(flip),
    half: ['both'],
  },
];
