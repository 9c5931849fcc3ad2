import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { rmsNorm } from './rms-norm.js';

/** [rows, D]: D below, at and off the vector lengths; one row and many. */
const shapes = [[3, 1], [1, 5], [2, 3, 32], [7, 100], [64, 65], [5, 768], [1000, 33], [300, 100]];

const results = ({ y, residual }: { y: Tensor; residual: Tensor }) => [y, residual];

export const cases: readonly OperationCase[] = [
  ...shapes.map((shape): OperationCase => ({
    name: `x [${shape.join(',')}]`,
    inputs: (random) => ({ x: normal(random, shape), weight: normal(random, [shape.at(-1) ?? 1], 0.5, 1) }),
    half: ['x'],
    run: (input) => results(rmsNorm(input('x'), input('weight'))),
    reductionLength: Math.max(...shape),
    large: shape.reduce((a, b) => a * b) > 5000,
  })),
  ...shapes.map((shape): OperationCase => ({
    name: `x and residual [${shape.join(',')}]`,
    inputs: (random) => ({
      x: normal(random, shape),
      residual: normal(random, shape, 2),
      weight: normal(random, [shape.at(-1) ?? 1], 0.5, 1),
    }),
    half: ['x'],
    run: (input) => results(rmsNorm(input('x'), input('weight'), { residual: input('residual') })),
    reductionLength: Math.max(...shape),
    large: shape.reduce((a, b) => a * b) > 5000,
  })),
  {
    name: 'operands with gaps between their rows, one for the cotangent',
    inputs: (random) => ({ x: normal(random, [2, 5, 74]), weight: normal(random, [37], 0.5, 1) }),
    half: ['x'],
    run(input) {
      const [x, residual] = split(input('x'), [37, 37]) as [Tensor, Tensor];
      const first = rmsNorm(x, input('weight'), { residual });
      const second = rmsNorm(first.y, input('weight'), { residual: first.residual });
      const [left, right] = split(second.y, [10, 27]) as [Tensor, Tensor];
      return [left, right, second.residual];
    },
    reductionLength: 100,
  },
  {
    name: 'x with gaps and no residual',
    inputs: (random) => ({ x: normal(random, [9, 40]), weight: normal(random, [21]) }),
    half: ['x'],
    run: (input) => results(rmsNorm(split(input('x'), [21, 19])[0] as Tensor, input('weight'))),
    reductionLength: 40,
  },
  {
    name: 'only the residual result is used',
    inputs: (random) => ({ x: normal(random, [3, 20]), residual: normal(random, [3, 20]), weight: normal(random, [20]) }),
    half: ['x', 'residual'],
    run: (input) => [rmsNorm(input('x'), input('weight'), { residual: input('residual') }).residual],
    differentiable: ['x', 'residual'],
  },
  {
    name: 'only the norm is used',
    inputs: (random) => ({ x: normal(random, [3, 20]), residual: normal(random, [3, 20]), weight: normal(random, [20]) }),
    half: ['x', 'residual'],
    run: (input) => [rmsNorm(input('x'), input('weight'), { residual: input('residual') }).y],
    reductionLength: 20,
  },
  ...[1e-12, 1e15].map((scale): OperationCase => ({
    name: `values around ${scale.toExponential()}`,
    inputs: (random) => ({ x: normal(random, [4, 50], scale), weight: normal(random, [50]) }),
    run: (input) => [rmsNorm(input('x'), input('weight'), { epsilon: scale < 1 ? 1e-25 : 1e-5 }).y],
    reductionLength: 50,
    large: true, // the difference quotients' step does not suit these scales
  })),
  {
    name: 'zeros',
    inputs: (random) => ({ x: { shape: [2, 9], values: new Float32Array(18) }, weight: normal(random, [9]) }),
    run: (input) => [rmsNorm(input('x'), input('weight')).y],
    large: true,
  },
];
