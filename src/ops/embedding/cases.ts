import type { Tensor } from '../../tensor/index.js';
import { integers, normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { embedding } from './embedding.js';

const sizes = [1, 7, 97, 256, 1000].flatMap((V) => [1, 5, 32, 100].map((D) => [V, D] as const));

export const cases: readonly OperationCase[] = [
  ...sizes.map(([V, D]): OperationCase => ({
    name: `V ${V}, D ${D}`,
    inputs: (random) => ({ ids: integers(random, [3, 13], V), weight: normal(random, [V, D]) }),
    run: (input) => [embedding(input('ids'), input('weight'))],
    half: ['weight'],
    reductionLength: V === 1 ? 39 : 8,
  })),
  ...[1, 63, 64, 65, 1000].map((L): OperationCase => ({
    name: `length ${L}, the same few ids again and again`,
    inputs: (random) => ({ ids: integers(random, [2, L], 3), weight: normal(random, [50, 67]) }),
    run: (input) => [embedding(input('ids'), input('weight'))],
    half: ['weight'],
    reductionLength: 2 * L,
    large: L === 1000,
  })),
  {
    name: 'one id without axes',
    inputs: (random) => ({ ids: integers(random, [], 9), weight: normal(random, [9, 21]) }),
    run: (input) => [embedding(input('ids'), input('weight'))],
    half: ['weight'],
  },
  {
    name: 'ids and weight with gaps between their rows',
    inputs: (random) => ({ ids: integers(random, [4, 6], 11), weight: normal(random, [11, 40]) }),
    run(input) {
      const [, ids] = split(input('ids'), [1, 5]) as [Tensor, Tensor];
      const [, weight] = split(input('weight'), [3, 37]) as [Tensor, Tensor];
      return [embedding(ids, weight)];
    },
    reductionLength: 20,
  },
];
