import { packedDTypes } from '../../tensor/index.js';
import { integers, normal, type OperationCase } from '../cases.js';
import { tokenLosses } from '../cross-entropy/linear-cross-entropy.js';
import { embedding } from '../embedding/embedding.js';
import { linear } from '../matmul/linear.js';
import { split } from '../view/view.js';
import { packWeight } from './packed.js';

/** Rows around the numbers that share a decoded line; outputs and inputs around panels and blocks. */
const shapes: readonly (readonly [rows: number, outputs: number, inputs: number])[] = [
  [1, 1, 1],
  [1, 16, 32],
  [1, 17, 33],
  [1, 300, 64],
  [2, 15, 31],
  [3, 80, 96],
  [4, 33, 7],
  [5, 5, 300],
  [6, 100, 65],
  [7, 16, 1000],
  [8, 48, 48],
  [9, 31, 160],
  [16, 64, 32],
  [17, 20, 40],
  [40, 130, 100],
  [36, 144, 1096],
];

// Nothing is differentiable: packed weights are for inference.
const forInference = { differentiable: [] } as const;

export const cases: readonly OperationCase[] = packedDTypes.flatMap((dtype): OperationCase[] => {
  // Integers meet activations in 16 bits.
  const rounded = { ...forInference, rounding: dtype === 'bf16' ? 0 : 2 ** -16 };
  return [
    ...shapes.map(([rows, outputs, inputs]): OperationCase => ({
      name: `linear, ${dtype}, ${rows} rows, ${inputs} to ${outputs}`,
      inputs: (random) => ({
        x: normal(random, [rows, inputs]),
        weight: normal(random, [outputs, inputs]),
        bias: normal(random, [outputs]),
      }),
      run: (input) => [linear(input('x'), packWeight(input('weight'), dtype), input('bias'))],
      reductionLength: inputs,
      half: ['x'],
      ...rounded,
    })),
    {
      name: `linear, ${dtype}, no bias, leading axes, gaps between the rows of x and of the weight`,
      inputs: (random) => ({ x: normal(random, [2, 5, 50]), weight: normal(random, [37, 45]) }),
      run(input) {
        const [, x] = split(input('x'), [7, 43]);
        const [weight] = split(input('weight'), [43, 2]);
        return x && weight ? [linear(x, packWeight(weight, dtype))] : [];
      },
      reductionLength: 43,
      ...rounded,
    },
    {
      name: `embedding, ${dtype}`,
      inputs: (random) => ({ ids: integers(random, [3, 13], 50), weight: normal(random, [50, 67]) }),
      run: (input) => [embedding(input('ids'), packWeight(input('weight'), dtype))],
      ...forInference,
    },
    {
      name: `token losses, ${dtype}`,
      inputs: (random) => ({ hidden: normal(random, [2, 9, 40]), weight: normal(random, [97, 40]), targets: integers(random, [2, 9], 97) }),
      run: (input) => [tokenLosses(input('hidden'), packWeight(input('weight'), dtype), input('targets'), { chunkRows: 5 })],
      reductionLength: 97,
      ...rounded,
    },
  ];
});
