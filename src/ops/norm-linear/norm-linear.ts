import { empty, expectRank, expectShape, launch, operation, type FloatDType, type Tensor } from '../../tensor/index.js';
import { linear } from '../matmul/linear.js';
import { checkNorm, type NormResult } from '../rms-norm/arguments.js';
import { rmsNorm } from '../rms-norm/rms-norm.js';
import * as kernels from './kernels.js';
import { mostColumns, mostRows, paysOnMatrices } from './webgpu.js';

/** Options of `rmsNormLinear`. */
export interface NormLinearOptions {
  /** ε, default 1e-5. */
  readonly epsilon?: number;
  /** [B,D], added to x first. */
  readonly residual?: Tensor | null;
  /** [N] f32, added to y. */
  readonly bias?: Tensor | null;
  /** dtype of y; default: x's. */
  readonly dtype?: FloatDType;
}

/**
 * A projection of root-mean-square-normed rows: y = rmsNorm(x + residual)·weightᵀ + bias, for the few rows of decoding.
 *
 * Fused where the backend has a kernel for it and the weights are floats, so that the norm is no pass of its own; otherwise
 * composed of `rmsNorm` and `linear`, as the number of launches shows. Not differentiable where it is fused.
 *
 * @param x [B,D] f32 or f16
 * @param normWeight [D] f32
 * @param weight [N,D], float or packed
 * @returns `y` [B,N], and `residual` [B,D] = x + residual; both must be disposed
 * @throws ShapeError, ArgumentError when the arguments do not fit together
 */
export function rmsNormLinear(x: Tensor, normWeight: Tensor, weight: Tensor, options: NormLinearOptions = {}): NormResult {
  const name = 'rmsNormLinear';
  const { epsilon = 1e-5, residual = null, bias = null } = options;
  return operation(name, { x: [x, 'float'], normWeight: [normWeight, 'f32'], weight: [weight, 'weight'], bias: [bias, 'f32?'], residual: [residual, 'float?'] }, () => {
    const { dtype = x.dtype as FloatDType } = options;
    expectRank(name, 'x', x.shape, 2, '[B,D]');
    checkNorm(name, x, { normWeight }, epsilon, residual);
    const { rows, columns, backend } = x;
    expectRank(name, 'weight', weight.shape, 2, '[N,D]');
    expectShape(name, 'weight', weight.shape, [weight.rows, columns], '[N,D]', 'D is the last extent of x');
    const kernel = bias === null && weight.dense ? kernelFor(x, normWeight, weight) : null;
    if (kernel === null) {
      const normed = rmsNorm(x, normWeight, { epsilon, residual });
      const y = linear(normed.y, weight, bias, { dtype });
      return { y, residual: normed.residual };
    }
    const outputs = weight.rows;
    const y = empty(backend, [rows, outputs], dtype);
    const sum = residual ? empty(backend, x.shape) : (x.retain() as Tensor<FloatDType>);
    launch(
      kernel,
      { x, residual, normWeight, weight, y, sum: residual ? sum : null },
      { rows, columns, outputs, xPitch: x.pitch, residualPitch: residual?.pitch ?? 0, epsilon },
    );
    return { y, residual: sum };
  });
}

/** The kernel that pays for these rows, on a backend that has it. */
function kernelFor(x: Tensor, normWeight: Tensor, weight: Tensor): typeof kernels.rmsNormLinear | null {
  const { rows, columns, backend } = x;
  const whole = weight.view.offset % 8 === 0 && normWeight.view.offset % 4 === 0;
  const halves = weight.dtype === 'f16' && whole && paysOnMatrices({ rows, columns, outputs: weight.rows });
  if (halves && backend.supports(kernels.rmsNormLinearMatrices)) return kernels.rmsNormLinearMatrices;
  const floats = weight.dtype === 'f32' || weight.dtype === 'f16';
  return floats && rows <= mostRows && columns <= mostColumns && backend.supports(kernels.rmsNormLinear) ? kernels.rmsNormLinear : null;
}
