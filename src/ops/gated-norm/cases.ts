import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { gatedRmsNorm } from './gated-norm.js';

/** [rows, D] and groups: parts below, at and off the vector lengths; one row and many. */
const settings: readonly (readonly [shape: readonly number[], groups: number])[] = [
  [[3, 1], 1],
  [[1, 6], 2],
  [[2, 3, 32], 1],
  [[7, 100], 4],
  [[64, 65], 5],
  [[5, 768], 1],
  [[5, 1536], 8],
  [[1000, 33], 1],
];

export const cases: readonly OperationCase[] = settings.flatMap(([shape, groups]) =>
  [false, true].map((normBeforeGate): OperationCase => {
    const columns = shape.at(-1) ?? 1;
    return {
      name: `x [${shape.join(',')}], groups ${groups}, ${normBeforeGate ? 'norm first' : 'gate first'}`,
      // z and x as parts of one projection: rows with gaps between them.
      inputs: (random) => ({ zx: normal(random, [...shape.slice(0, -1), 2 * columns]), weight: normal(random, [columns], 0.5, 1) }),
      run(input) {
        const [z, x] = split(input('zx'), [columns, columns]) as [Tensor, Tensor];
        return [gatedRmsNorm(x, z, input('weight'), { groups, normBeforeGate, epsilon: 1e-3 })];
      },
      half: ['zx'],
      reductionLength: Math.max(...shape),
      large: shape.reduce((a, b) => a * b) > 5000,
    };
  }),
);
