import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { linear } from './linear.js';
import { matmul } from './matmul.js';

/** Rows, outputs and inputs around the edges of tiles, blocks of depth, vectors, and the form for few rows. */
const linearShapes: readonly (readonly [rows: number, outputs: number, inputs: number])[] = [
  [1, 1, 1],
  [1, 33, 17],
  [1, 130, 300],
  [2, 5, 3],
  [3, 64, 65],
  [5, 31, 1],
  [7, 100, 16],
  [8, 17, 130],
  [9, 8, 7],
  [15, 2, 33],
  [16, 48, 64],
  [17, 130, 15],
  [31, 16, 5],
  [33, 65, 100],
  [65, 33, 31],
  [100, 15, 2],
  [130, 3, 64],
];

const largeLinearShapes: typeof linearShapes = [
  [64, 80, 1000],
  [300, 65, 130],
  [130, 300, 33],
  [1000, 48, 16],
  // Extents that matrix units and vectors take, of some tiles and of parts of them.
  [264, 200, 136],
  [16, 48, 544],
  // Few rows, where subgroups share the depth.
  [7, 60, 512],
  [75, 80, 1536],
  // Whole tiles, in parts of the depth: of every product on the way there and back.
  [512, 256, 256],
];

const linearCase = ([rows, outputs, inputs]: (typeof linearShapes)[number], large: boolean): OperationCase => ({
  name: `linear, ${rows} rows, ${inputs} to ${outputs}`,
  inputs: (random) => ({
    x: normal(random, [rows, inputs]),
    weight: normal(random, [outputs, inputs]),
    bias: normal(random, [outputs]),
  }),
  run: (input) => [linear(input('x'), input('weight'), input('bias'))],
  reductionLength: Math.max(rows, outputs, inputs),
  half: ['x', 'weight'],
  large,
});

const matmulCase = (name: string, a: readonly number[], b: readonly number[]): OperationCase => ({
  name: `matmul, ${name}`,
  inputs: (random) => ({ a: normal(random, a), b: normal(random, b) }),
  run: (input) => [matmul(input('a'), input('b'))],
  half: ['a', 'b'],
  reductionLength: Math.max(...a, ...b),
});

export const cases: readonly OperationCase[] = [
  ...linearShapes.map((shape) => linearCase(shape, false)),
  ...largeLinearShapes.map((shape) => linearCase(shape, true)),
  {
    name: 'linear without bias, leading axes',
    inputs: (random) => ({ x: normal(random, [2, 3, 5, 17]), weight: normal(random, [33, 17]) }),
    run: (input) => [linear(input('x'), input('weight'))],
    reductionLength: 33,
    half: ['x', 'weight'],
  },
  {
    name: 'linear of a vector',
    inputs: (random) => ({ x: normal(random, [17]), weight: normal(random, [5, 17]), bias: normal(random, [5]) }),
    run: (input) => [linear(input('x'), input('weight'), input('bias'))],
    reductionLength: 17,
  },
  {
    name: 'linear, gaps between the rows of x, of weight and of dy',
    inputs: (random) => ({ x: normal(random, [4, 5, 40]), weight: normal(random, [24, 37]), bias: normal(random, [24]) }),
    run(input) {
      const [, x] = split(input('x'), [7, 33]) as [Tensor, Tensor];
      const [weight] = split(input('weight'), [33, 4]) as [Tensor, Tensor];
      return split(linear(x, weight, input('bias')), [8, 16]);
    },
    reductionLength: 33,
    half: ['x', 'weight'],
  },
  {
    name: 'linear, gaps between few rows',
    inputs: (random) => ({ x: normal(random, [3, 40]), weight: normal(random, [21, 33]) }),
    run: (input) => [linear(split(input('x'), [7, 33])[1] as Tensor, input('weight'))],
    reductionLength: 33,
  },
  matmulCase('two matrices', [17, 33], [33, 19]),
  matmulCase('one right factor for all', [2, 3, 7, 20], [20, 33]),
  matmulCase('a batch', [2, 3, 9, 16], [2, 3, 16, 31]),
  matmulCase('a batch of vectors', [5, 1, 33], [5, 33, 1]),
  matmulCase('a batch of some size', [3, 64, 65], [3, 65, 50]),
  matmulCase('a batch in vectors', [2, 40, 72], [2, 72, 136]),
  {
    name: 'matmul, a batch with gaps between the rows',
    inputs: (random) => ({ a: normal(random, [3, 5, 24]), b: normal(random, [3, 17, 20]) }),
    run(input) {
      const [a] = split(input('a'), [17, 7]) as [Tensor, Tensor];
      const [, b] = split(input('b'), [3, 17]) as [Tensor, Tensor];
      return split(matmul(a, b), [8, 9]);
    },
    reductionLength: 17,
    half: ['a', 'b'],
  },
];
