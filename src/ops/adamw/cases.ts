import type { Tensor } from '../../tensor/index.js';
import { normal, uniform, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { adamwStep, globalNorm } from './adamw.js';

const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 3 };

// Nothing here is differentiable: these compare values on every backend.
export const cases: readonly OperationCase[] = [
  ...([[1, 0], [1, 1], [5, 3], [63, 63], [64, 0], [65, 17], [1000, 501], [40_000, 20_001]] as const).flatMap(([count, decayCount]) =>
    [undefined, 0.5, 1e6].map((maxGradientNorm): OperationCase => ({
      name: `${String(count)} parameters, ${String(decayCount)} decayed, clipped to ${String(maxGradientNorm)}`,
      inputs: (random) => ({
        parameters: normal(random, [count]),
        gradients: normal(random, [count]),
        firstMoments: normal(random, [count], 0.1),
        secondMoments: uniform(random, [count], 0, 0.2),
      }),
      run(input) {
        const tensors = {
          parameters: input('parameters'),
          gradients: input('gradients'),
          firstMoments: input('firstMoments'),
          secondMoments: input('secondMoments'),
        };
        const clipping = maxGradientNorm === undefined ? {} : { maxGradientNorm, gradientNorm: globalNorm(tensors.gradients) };
        adamwStep({ ...tensors, ...clipping, decayCount }, settings);
        return [tensors.parameters, tensors.firstMoments, tensors.secondMoments];
      },
      differentiable: [],
    })),
  ),
  ...[1, 7, 64, 1000, 16_384, 16_385, 100_003].map((count): OperationCase => ({
    name: `norm of ${String(count)}`,
    inputs: (random) => ({ x: normal(random, [count]) }),
    run: (input) => [globalNorm(input('x'))],
    differentiable: [],
  })),
  ...[1e-30, 1e30].map((scale): OperationCase => ({
    name: `norm of values near ${String(scale)}, whose squares float32 cannot hold`,
    inputs: (random) => ({ x: normal(random, [301], scale) }),
    run: (input) => [globalNorm(input('x'))],
    differentiable: [],
  })),
  {
    name: 'norm with gaps between the rows',
    inputs: (random) => ({ x: normal(random, [7, 40]) }),
    run(input) {
      const [, x] = split(input('x'), [3, 37]) as [Tensor, Tensor];
      return [globalNorm(x)];
    },
    differentiable: [],
  },
];
