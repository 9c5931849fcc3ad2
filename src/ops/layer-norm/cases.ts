import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { layerNorm } from './layer-norm.js';

/** [rows, D]: D below, at and off the vector lengths; one row and many. */
const shapes = [[1, 5], [2, 3, 32], [7, 100], [64, 65], [5, 768], [1000, 33], [300, 100]];

const results = ({ y, residual }: { y: Tensor; residual: Tensor }) => [y, residual];

export const cases: readonly OperationCase[] = [
  ...shapes.map((shape): OperationCase => ({
    name: `x [${shape.join(',')}]`,
    inputs: (random) => ({
      x: normal(random, shape),
      weight: normal(random, [shape.at(-1) ?? 1], 0.5, 1),
      bias: normal(random, [shape.at(-1) ?? 1]),
    }),
    half: ['x'],
    run: (input) => results(layerNorm(input('x'), input('weight'), input('bias'))),
    reductionLength: Math.max(...shape),
    large: shape.reduce((a, b) => a * b) > 5000,
  })),
  ...shapes.map((shape): OperationCase => ({
    name: `x and residual, no bias [${shape.join(',')}]`,
    inputs: (random) => ({
      x: normal(random, shape),
      residual: normal(random, shape, 2),
      weight: normal(random, [shape.at(-1) ?? 1], 0.5, 1),
    }),
    half: ['x'],
    run: (input) => results(layerNorm(input('x'), input('weight'), null, { residual: input('residual') })),
    reductionLength: Math.max(...shape),
    large: shape.reduce((a, b) => a * b) > 5000,
  })),
  {
    name: 'one column: the norm is 0 and y the bias',
    inputs: (random) => ({ x: normal(random, [3, 1]), weight: normal(random, [1]), bias: normal(random, [1]) }),
    half: ['x'],
    run: (input) => results(layerNorm(input('x'), input('weight'), input('bias'))),
    reductionLength: 3,
  },
  ...[1e2, 1e4, -1e6].map((offset): OperationCase => ({
    name: `rows around ${offset} with a deviation of 1`,
    inputs: (random) => ({
      x: normal(random, [6, 100], 1, offset),
      weight: normal(random, [100], 0.5, 1),
      bias: normal(random, [100]),
    }),
    run: (input) => [layerNorm(input('x'), input('weight'), input('bias')).y],
    reductionLength: 100,
    large: true, // the difference quotients' step grows with the offset
  })),
  {
    name: 'operands with gaps between their rows, one for the cotangent',
    inputs: (random) => ({ x: normal(random, [2, 5, 74]), weight: normal(random, [37], 0.5, 1), bias: normal(random, [37]) }),
    half: ['x'],
    run(input) {
      const [x, residual] = split(input('x'), [37, 37]) as [Tensor, Tensor];
      const first = layerNorm(x, input('weight'), input('bias'), { residual });
      const second = layerNorm(first.y, input('weight'), input('bias'), { residual: first.residual });
      const [left, right] = split(second.y, [10, 27]) as [Tensor, Tensor];
      return [left, right, second.residual];
    },
    reductionLength: 100,
  },
  {
    name: 'only the residual result is used',
    inputs: (random) => ({ x: normal(random, [3, 20]), residual: normal(random, [3, 20]), weight: normal(random, [20]) }),
    half: ['x', 'residual'],
    run: (input) => [layerNorm(input('x'), input('weight'), null, { residual: input('residual') }).residual],
    differentiable: ['x', 'residual'],
  },
  {
    name: 'only the bias is wanted',
    inputs: (random) => ({ x: normal(random, [30, 20]), weight: normal(random, [20]), bias: normal(random, [20]) }),
    run: (input) => [layerNorm(input('x'), input('weight'), input('bias')).y],
    differentiable: ['bias'],
    reductionLength: 30,
  },
];
