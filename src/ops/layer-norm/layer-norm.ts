import { empty, isRecording, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { checkNorm, inDType, partialSums, type NormOptions, type NormResult } from '../rms-norm/arguments.js';
import * as kernels from './kernels.js';

/**
 * Layer norm of the rows of x + residual, in one pass over memory.
 *
 * y = (s − mean(s))·weight / √(var(s) + ε) + bias with s = x + residual (or x); mean and (biased) variance over the last
 * axis.
 *
 * @param x [..., D] f32 or f16
 * @param weight [D] f32
 * @param bias [D] f32, or null for none
 * @param options.epsilon ε, default 1e-5
 * @param options.residual [..., D] f32 or f16
 * @returns `y` [..., D] of x's dtype, and `residual` [..., D] = s, f32 where a residual was given (else x itself), to be given to the next norm; both must be disposed
 * @throws ShapeError, ArgumentError
 *
 * Source: Ba, Kiros & Hinton, "Layer Normalization" (2016), equation 4. ε and the addition of the residual stream are as in
 * Mamba's code.
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor | null, options: NormOptions = {}): NormResult {
  const { epsilon = 1e-5, residual = null } = options;
  return operation('layerNorm', { x: [x, 'float'], weight: [weight, 'f32'], bias: [bias, 'f32?'], residual: [residual, 'float?'] }, () => {
    checkNorm('layerNorm', x, { weight, bias }, epsilon, residual);
    const { rows, columns, shape, backend } = x;
    const y = empty(backend, shape, x.dtype as FloatDType);
    const sum = residual ? empty(backend, shape) : (x.retain() as Tensor<FloatDType>);
    const statistics = isRecording() ? empty(backend, [rows, 3]) : null;
    launch(
      kernels.layerNorm,
      { x, residual, weight, bias, y, sum: residual ? sum : null, statistics },
      { rows, columns, xPitch: x.pitch, residualPitch: residual?.pitch ?? 0, epsilon },
    );
    if (statistics) {
      const [dtype, streamDType] = [x.dtype, (residual ?? x).dtype];
      const same = dtype === streamDType;
      record({
        operation: 'layerNorm',
        inputs: [x, weight, bias, residual],
        // Without a residual the second result is x itself: its cotangent is x's already.
        outputs: residual ? [y, sum] : [y],
        saved: { sum, weight, statistics },
        backward({ cotangents: [dy = null, dresidual = null], saved, needed }) {
          if (!dy) return [dresidual && inDType(dresidual, dtype), null, null, dresidual && inDType(dresidual, streamDType)];
          const dsum = needed[3] || (same && needed[0]) ? empty(dy.backend, shape, streamDType) : null;
          const dx = !same && needed[0] ? empty(dy.backend, shape, dtype) : null;
          const dweight = needed[1] ? empty(dy.backend, [columns]) : null;
          const dbias = needed[2] ? empty(dy.backend, [columns]) : null;
          const blocks = partialSums(shape);
          const partials = dweight || dbias ? empty(dy.backend, [blocks, 2, columns]) : null;
          launch(
            kernels.layerNormBackward,
            { ...saved, dy, dresidual, dsum, dx, dweight, dbias, partials },
            { rows, columns, sumPitch: saved.sum.pitch, dyPitch: dy.pitch, dresidualPitch: dresidual?.pitch ?? 0, blocks },
          );
          return [dx ?? dsum, dweight, dbias, dsum];
        },
      });
    }
    return { y, residual: sum };
  });
}
