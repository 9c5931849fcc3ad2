import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { unfold } from './unfold.js';

const settings: readonly (readonly [name: string, shape: readonly number[], patch: number, stride?: number])[] = [
  ['patches side by side', [2, 3, 8, 12], 4],
  ['patches that overlap', [2, 2, 9, 7], 3, 2],
  ['patches with gaps between them', [1, 2, 11, 10], 2, 4],
  ['pixels left over', [2, 1, 7, 6], 3],
  ['one patch', [3, 2, 5, 5], 5],
  ['patches of a pixel', [1, 4, 3, 5], 1],
];

export const cases: readonly OperationCase[] = [
  ...settings.map(([name, shape, patch, stride]): OperationCase => ({
    name,
    inputs: (random) => ({ x: normal(random, shape) }),
    run: (input) => [unfold(input('x'), { patch, stride })],
    reductionLength: patch * patch,
    half: ['x'],
  })),
  {
    name: 'rows of pixels with gaps, cotangents too',
    inputs: (random) => ({ both: normal(random, [2, 2, 6, 10]) }),
    run: (input) => split(unfold((split(input('both'), [6, 4]) as [Tensor, Tensor])[0], { patch: 3 }), [7, 11]),
    reductionLength: 9,
    half: ['both'],
  },
];
