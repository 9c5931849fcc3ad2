import { normal, uniform, type OperationCase } from '../cases.js';
import { complexMultiply, complexPhi, complexReciprocal } from './complex.js';

export const cases: readonly OperationCase[] = [
  ...[false, true].flatMap((conjugate) =>
    [[3, 5, 7, 2], [5, 7, 2], [7, 2]].map((shape): OperationCase => ({
      name: `multiply by y [${shape.join(',')}]${conjugate ? ', conjugate' : ''}`,
      inputs: (random) => ({ x: normal(random, [3, 5, 7, 2]), y: normal(random, shape) }),
      run: (input) => [complexMultiply(input('x'), input('y'), { conjugate })],
      reductionLength: 15,
    })),
  ),
  {
    name: 'multiply by y used twice, of fewer axes',
    inputs: (random) => ({ x: normal(random, [1, 7, 2]), y: normal(random, [7, 2]) }),
    run: (input) => [complexMultiply(input('x'), complexMultiply(input('y'), input('y')))],
  },
  ...[
    { shift: 0, epsilon: 0 },
    { shift: 1, epsilon: 0 },
    { shift: 0, epsilon: 0.1 },
  ].map((options): OperationCase => ({
    name: `reciprocal, shift ${options.shift}, epsilon ${options.epsilon}`,
    inputs: (random) => ({ x: uniform(random, [9, 7, 2], 0.3, 2) }),
    run: (input) => [complexReciprocal(input('x'), options)],
    reductionLength: 10,
  })),
  ...[1e-3, 0.5, 4, 30].map((scale): OperationCase => ({
    name: `phi of numbers about ${scale}`,
    inputs(random) {
      const { shape, values } = normal(random, [41, 2], scale);
      // Decays: real parts are not positive.
      return { x: { shape, values: Float32Array.from(values, (value, i) => (i % 2 === 0 ? -Math.abs(value) : value)) } };
    },
    run: (input) => [complexPhi(input('x'))],
    reductionLength: 10,
  })),
];
