import { empty, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import * as kernels from './kernels.js';

/**
 * Probabilities in proportion to e^x over the last axis: y_c = e^(x_c − m) / Σⱼ e^(x_j − m) with m = max x, which no logit
 * can overflow. Logits of −∞ have probability 0; a row of nothing else is NaN.
 * @param x [...,C] f32 or f16
 * @returns [...,C] of x's dtype
 */
export function softmax(x: Tensor): Tensor<FloatDType> {
  return normalise('softmax', x, kernels.softmax, kernels.softmaxBackward);
}

/**
 * Logarithm of `softmax` over the last axis: y_c = (x_c − m) − ln Σⱼ e^(x_j − m), m = max x.
 * @param x [...,C] f32 or f16
 * @returns [...,C] of x's dtype
 */
export function logSoftmax(x: Tensor): Tensor<FloatDType> {
  return normalise('logSoftmax', x, kernels.logSoftmax, kernels.logSoftmaxBackward);
}

/** Both operations read their input once and differentiate by their result. */
function normalise(
  name: string,
  x: Tensor,
  forward: typeof kernels.softmax | typeof kernels.logSoftmax,
  backward: typeof kernels.softmaxBackward | typeof kernels.logSoftmaxBackward,
): Tensor<FloatDType> {
  return operation(name, { x: [x, 'float'] }, () => {
    const { rows, columns, dtype } = x;
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    launch(forward, { x, y }, { rows, columns, xPitch: x.pitch });
    record({
      operation: name,
      inputs: [x],
      outputs: [y],
      saved: { y },
      backward({ cotangents: [dy], saved }) {
        if (!dy) return [null];
        const dx = empty(dy.backend, dy.shape, dtype);
        launch(backward, { y: saved.y, dy, dx }, { rows, columns, dyPitch: dy.pitch });
        return [dx];
      },
    });
    return y;
  });
}
