import { empty, expectRank, expectShape, isPacked, operation, record, type GradientSum, type FloatDType, type Tensor } from '../../tensor/index.js';
import { linearPackedInto, noPackedGradient } from '../packed/packed.js';
import { sum } from '../reduction/reduction.js';
import { cast, reshape } from '../view/view.js';
import { gemmInto } from './gemm.js';

/** Launches y = x·weightᵀ + bias, whatever the weight's dtype. Not recorded and not checked: operations check. */
export function linearInto(x: Tensor, weight: Tensor, y: Tensor, bias: Tensor | null): void {
  if (isPacked(weight.dtype)) linearPackedInto(x, weight, y, bias);
  // Activations saturate: an outlier of one token must not make a whole pass infinite. Gradients do not, or no loss scale would
  // be found to be too large.
  else gemmInto(x, weight, y, { transposeB: true, bias, saturate: true });
}

/**
 * A fully connected layer: y = x·weightᵀ + bias.
 *
 * The weight lies as in the published checkpoints and PyTorch, one row an output, so that no copy of it is ever needed.
 *
 * @param x [..., K] f32 or f16, of any pitch
 * @param weight [N, K] f32 or f16, or packed (`packWeight`), which is for inference: it is an error to ask for a gradient through y
 * @param bias [N] f32
 * @param options.dtype of the result; default: x's
 * @returns [..., N]
 * @throws ShapeError when the shapes do not fit
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null, options: { readonly dtype?: FloatDType } = {}): Tensor<FloatDType> {
  return operation('linear', { x: [x, 'float'], weight: [weight, 'weight'], bias: [bias, 'f32?'] }, () => {
    expectRank('linear', 'weight', weight.shape, 2, '[N,K]');
    const outer = x.shape.slice(0, -1);
    const { rows: outputs, columns: inputs } = weight;
    expectShape('linear', 'x', x.shape, [...outer, inputs], x.rank === 1 ? '[K]' : '[…,K]', 'weight is [N,K]: one row an output');
    if (bias) expectShape('linear', 'bias', bias.shape, [outputs], '[N]');
    const y = empty(x.backend, [...outer, outputs], options.dtype ?? (x.dtype as FloatDType));
    linearInto(x, weight, y, bias ?? null);
    record({
      operation: 'linear',
      inputs: [x, weight, bias],
      outputs: [y],
      saved: { x, weight },
      backward({ cotangents: [dy], saved, needed, sums: [, weightSum] }) {
        if (!dy) return [null, null, null];
        if (isPacked(saved.weight.dtype)) throw noPackedGradient('linear', saved.weight.dtype);
        return [
          needed[0] ? inputGradient(dy, saved.weight, saved.x) : null,
          needed[1] ? weightGradient(dy, saved.x, saved.weight, weightSum ?? null) : null,
          needed[2] ? cast(sum(reshape(dy, [dy.rows, outputs]), 0), 'f32') : null,
        ];
      },
    });
    return y;
  });
}

function inputGradient(dy: Tensor, weight: Tensor, x: Tensor): Tensor {
  const dx = empty(dy.backend, x.shape, x.dtype);
  gemmInto(dy, weight, dx);
  return dx;
}

/** dyᵀ·x, or null when it went to `sum`. */
function weightGradient(dy: Tensor, x: Tensor, weight: Tensor, sum: GradientSum | null): Tensor | null {
  if (sum === null) {
    const dWeight = empty(dy.backend, weight.shape, weight.dtype);
    gemmInto(dy, x, dWeight, { transposeA: true });
    return dWeight;
  }
  gemmInto(dy, x, sum.total, { transposeA: true, accumulate: !sum.empty });
  sum.empty = false;
  return null;
}
