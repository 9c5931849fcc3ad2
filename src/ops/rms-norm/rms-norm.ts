import { empty, isRecording, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { checkNorm, inDType, partialSums, type NormOptions, type NormResult } from './arguments.js';
import * as kernels from './kernels.js';

/**
 * Root mean square norm of the rows of x + residual, in one pass over memory.
 *
 * y = s·weight / √(mean(s²) + ε) with s = x + residual (or x), the mean taken over the last axis.
 *
 * @param x [..., D] f32 or f16
 * @param weight [D] f32
 * @param options.epsilon ε, default 1e-5
 * @param options.residual [..., D] f32 or f16
 * @returns `y` [..., D] of x's dtype, and `residual` [..., D] = s, f32 where a residual was given (else x itself), to be given to the next norm; both must be disposed
 * @throws ShapeError, ArgumentError
 *
 * Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4. The addition of the residual stream
 * and ε are Mamba's. The papers' bias and partial RMSNorm are left out: the models do not use them.
 */
export function rmsNorm(x: Tensor, weight: Tensor, options: NormOptions = {}): NormResult {
  const { epsilon = 1e-5, residual = null } = options;
  return operation('rmsNorm', { x: [x, 'float'], weight: [weight, 'f32'], residual: [residual, 'float?'] }, () => {
    checkNorm('rmsNorm', x, { weight }, epsilon, residual);
    const { rows, columns, shape, backend } = x;
    const y = empty(backend, shape, x.dtype as FloatDType);
    const sum = residual ? empty(backend, shape) : (x.retain() as Tensor<FloatDType>);
    const statistics = isRecording() ? empty(backend, [rows]) : null;
    launch(
      kernels.rmsNorm,
      { x, residual, weight, y, sum: residual ? sum : null, statistics },
      { rows, columns, xPitch: x.pitch, residualPitch: residual?.pitch ?? 0, epsilon },
    );
    if (statistics) {
      const [dtype, streamDType] = [x.dtype, (residual ?? x).dtype];
      const same = dtype === streamDType;
      record({
        operation: 'rmsNorm',
        inputs: [x, weight, residual],
        // Without a residual the second result is x itself: its cotangent is x's already.
        outputs: residual ? [y, sum] : [y],
        saved: { sum, weight, statistics },
        backward({ cotangents: [dy = null, dresidual = null], saved, needed }) {
          if (!dy) return [dresidual && inDType(dresidual, dtype), null, dresidual && inDType(dresidual, streamDType)];
          const dsum = needed[2] || (same && needed[0]) ? empty(dy.backend, shape, streamDType) : null;
          const dx = !same && needed[0] ? empty(dy.backend, shape, dtype) : null;
          const dweight = needed[1] ? empty(dy.backend, [columns]) : null;
          const blocks = partialSums(shape);
          launch(
            kernels.rmsNormBackward,
            { ...saved, dy, dresidual, dsum, dx, dweight, partials: dweight && empty(dy.backend, [blocks, columns]) },
            { rows, columns, sumPitch: saved.sum.pitch, dyPitch: dy.pitch, dresidualPitch: dresidual?.pitch ?? 0, blocks },
          );
          return [dx ?? dsum, dweight, dsum];
        },
      });
    }
    return { y, residual: sum };
  });
}
