import { empty, expectNumber, expectShape, expectTensors, launch, operation, type Tensor } from '../../tensor/index.js';
import { ShapeError } from '../../util/errors.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** The vectors of an AdamW step: all parameters of a model one after another. */
export interface AdamwTensors {
  /** [n] f32, changed in place. */
  readonly parameters: Tensor;
  /** [n] f32 */
  readonly gradients: Tensor;
  /** [n] f32, exponential mean of the gradients; changed in place; zeros before the first step. */
  readonly firstMoments: Tensor;
  /** [n] f32, exponential mean of their squares; changed in place; zeros before the first step. */
  readonly secondMoments: Tensor;
  /** How many parameters, from the first on, weight decay applies to. */
  readonly decayCount: number;
  /** Norm of the gradients, one element, as `globalNorm` gives it. When it is not finite the step changes nothing. */
  readonly gradientNorm?: Tensor | null;
  /** Gradients are scaled by min(1, maxGradientNorm / (gradientNorm + 10⁻⁶)). */
  readonly maxGradientNorm?: number;
  /**
   * Multiplies the gradients first, default 1: 1/S for gradients of a loss that was scaled by S to keep half precision from
   * losing them. `gradientNorm` is then that of the scaled gradients: give `globalNorm` the same number.
   */
  readonly gradientScale?: number;
}

/** The numbers of an AdamW step. */
export interface AdamwSettings {
  readonly learningRate: number;
  /** Decay of the first moments, in [0, 1). */
  readonly beta1: number;
  /** Decay of the second moments, in [0, 1). */
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Number of this step, from 1 on. */
  readonly step: number;
}

/**
 * One step of Adam with decoupled weight decay, in place, for all parameters in one launch:
 * m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − η·(λp + m̂ / (√v̂ + ε)) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).
 *
 * Not recorded. The numbers are part of the launch: a captured program repeats the step it was captured with.
 *
 * @throws ShapeError unless the vectors have the same length and gradientNorm one element
 * @throws ArgumentError when a number is out of its range, or maxGradientNorm is given without gradientNorm
 *
 * Source: Loshchilov & Hutter 2019, algorithm 2, with the schedule multiplier in η. As PyTorch's AdamW, and unlike the
 * paper, λ is multiplied by the learning rate; clipping is `torch.nn.utils.clip_grad_norm_`.
 */
export function adamwStep(tensors: AdamwTensors, settings: AdamwSettings): void {
  const { parameters, gradients, firstMoments, secondMoments, decayCount, gradientNorm = null } = tensors;
  const { learningRate, beta1, beta2, epsilon, weightDecay, step } = settings;
  expectTensors('adamwStep', {
    ...{ parameters: [parameters, 'f32'], gradients: [gradients, 'f32'], gradientNorm: [gradientNorm, 'f32?'] },
    ...{ firstMoments: [firstMoments, 'f32'], secondMoments: [secondMoments, 'f32'] },
  });
  const count = parameters.size;
  expectShape('adamwStep', 'parameters', parameters.shape, [count], '[n]');
  for (const [name, tensor] of Object.entries({ gradients, firstMoments, secondMoments })) {
    expectShape('adamwStep', name, tensor.shape, [count], '[n] of parameters');
  }
  if (gradientNorm !== null && gradientNorm.size !== 1) {
    throw new ShapeError({
      operation: 'adamwStep',
      argument: 'gradientNorm',
      expected: '[] or [1]',
      got: `[${gradientNorm.shape.join(',')}]`,
    });
  }
  const { maxGradientNorm, gradientScale = 1 } = tensors;
  const check = (argument: string, value: number, holds: (value: number) => boolean, expected: string) => {
    expectNumber('adamwStep', argument, value, holds, expected);
  };
  check('decayCount', decayCount, (value) => Number.isInteger(value) && value >= 0 && value <= count, `an integer in [0, ${count}]`);
  check('gradientScale', gradientScale, (value) => value > 0 && value < Infinity, 'a positive number');
  check('step', step, (value) => Number.isInteger(value) && value >= 1, 'an integer from 1 on');
  check('learningRate', learningRate, Number.isFinite, 'a finite number');
  check('beta1', beta1, (value) => value >= 0 && value < 1, 'in [0, 1)');
  check('beta2', beta2, (value) => value >= 0 && value < 1, 'in [0, 1)');
  check('epsilon', epsilon, (value) => value >= 0 && value < Infinity, 'at least 0');
  check('weightDecay', weightDecay, Number.isFinite, 'a finite number');
  if (maxGradientNorm !== undefined) {
    check('maxGradientNorm', maxGradientNorm, (value) => value > 0, 'a positive number');
    check('maxGradientNorm', maxGradientNorm, () => gradientNorm !== null, 'left out where gradientNorm is');
  }
  launch(
    kernels.adamwStep,
    { parameters, gradients, firstMoments, secondMoments, gradientNorm },
    {
      count,
      decayCount,
      gradientScale,
      maxGradientNorm: maxGradientNorm ?? Infinity,
      beta1,
      beta1Complement: 1 - beta1,
      beta2,
      beta2Complement: 1 - beta2,
      epsilon,
      decay: learningRate * weightDecay,
      stepSize: learningRate / (1 - beta1 ** step),
      rootScale: 1 / Math.sqrt(1 - beta2 ** step),
    },
  );
}

/**
 * Euclidean norm scale·√Σx², the same to the bit in every run: summed in float64 on the CPU, exact to float32 for 10⁸ elements
 * and more; on a GPU in float32 pairwise, for numbers of any size. Not finite where an element is not. Not differentiable and
 * not recorded.
 * @param x any shape, f32
 * @param scale of the result, default 1
 * @returns []
 */
export function globalNorm(x: Tensor, scale = 1): Tensor<'f32'> {
  expectNumber('globalNorm', 'scale', scale, Number.isFinite, 'a finite number');
  return operation('globalNorm', { x: [x, 'f32'] }, () => {
    const dense = contiguous(x);
    const norm = empty(x.backend, [], 'f32');
    launch(kernels.globalNorm, { x: dense, norm }, { count: x.size, scale });
    return norm;
  });
}
