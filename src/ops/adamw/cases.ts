import type { Tensor } from '../../tensor/index.js';
import { normal, uniform, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { adamwStep, globalNorm } from './adamw.js';

const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 3 };

// Nothing here is differentiable: these compare values on every backend.
export const cases: readonly OperationCase[] = [
  ...([[1, 0], [1, 1], [5, 3], [63, 63], [64, 0], [65, 17], [1000, 501], [40_000, 20_001]] as const).flatMap(([count, decayCount]) =>
    [undefined, 0.5, 1e6].map((maxGradientNorm): OperationCase => ({
      name: `${count} parameters, ${decayCount} decayed, clipped to ${String(maxGradientNorm)}`,
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
  ...[37, 4096].map((count): OperationCase => ({
    name: `${count} parameters, gradients of a loss scaled by 1,024`,
    inputs: (random) => ({
      parameters: normal(random, [count]),
      gradients: normal(random, [count], 1024),
      firstMoments: normal(random, [count], 0.1),
      secondMoments: uniform(random, [count], 0, 0.2),
    }),
    run(input) {
      const gradientScale = 1 / 1024;
      const [parameters, gradients] = [input('parameters'), input('gradients')];
      const [firstMoments, secondMoments] = [input('firstMoments'), input('secondMoments')];
      const gradientNorm = globalNorm(gradients, gradientScale);
      const clipping = { gradientScale, gradientNorm, maxGradientNorm: 0.5 };
      adamwStep({ parameters, gradients, firstMoments, secondMoments, decayCount: count, ...clipping }, settings);
      return [parameters, firstMoments, secondMoments, gradientNorm];
    },
    differentiable: [],
  })),
  ...[NaN, Infinity].map((impossible): OperationCase => ({
    name: `a gradient of ${impossible} changes nothing`,
    inputs(random) {
      const gradients = normal(random, [200]);
      return {
        parameters: normal(random, [200]),
        gradients: { ...gradients, values: Float32Array.from(gradients.values, (value, i) => (i === 177 ? impossible : value)) },
        firstMoments: normal(random, [200], 0.1),
        secondMoments: uniform(random, [200], 0, 0.2),
      };
    },
    run(input) {
      const [parameters, gradients] = [input('parameters'), input('gradients')];
      const [firstMoments, secondMoments] = [input('firstMoments'), input('secondMoments')];
      adamwStep({ parameters, gradients, firstMoments, secondMoments, decayCount: 100, gradientNorm: globalNorm(gradients) }, settings);
      return [parameters, firstMoments, secondMoments];
    },
    differentiable: [],
  })),
  ...[1, 7, 64, 1000, 16_384, 16_385, 100_003].map((count): OperationCase => ({
    name: `norm of ${count}`,
    inputs: (random) => ({ x: normal(random, [count]) }),
    run: (input) => [globalNorm(input('x'))],
    differentiable: [],
  })),
  ...[1e-30, 1e30].map((scale): OperationCase => ({
    name: `norm of values near ${scale}, whose squares float32 cannot hold`,
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
