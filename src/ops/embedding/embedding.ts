import { empty, expectIntegersIn, expectRank, isPacked, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { embeddingPackedInto, noPackedGradient } from '../packed/packed.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** dtype of the result; default: the weight's, f32 of a packed one. */
  readonly dtype?: 'f32' | 'f16';
}

/**
 * The rows of a table that `ids` names: y[…, :] = weight[ids[…], :].
 *
 * A kernel on a device cannot throw: an id outside [0, V) gives a row of NaN and no gradient, and never reads outside of
 * `weight`. Whoever holds the ids on the host checks them there.
 *
 * @param ids [...] i32
 * @param weight [V,D] f32 or f16, differentiable, or packed (`packWeight`), which is not; equal ids add their gradients in an
 *   order that follows from where they stand, the same to the bit in every run
 * @param options.dtype of the result
 * @returns [...,D]
 * @throws DTypeError when ids are not i32
 * @throws ShapeError when weight is not a matrix
 */
export function embedding(ids: Tensor, weight: Tensor, options: EmbeddingOptions = {}): Tensor<FloatDType> {
  return operation('embedding', { weight: [weight, 'weight'], ids: [ids, 'i32'] }, () => {
    expectRank('embedding', 'weight', weight.shape, 2, '[V,D]');
    const { rows: vocabulary, columns } = weight;
    expectIntegersIn('embedding', 'ids', ids, { least: 0, limit: vocabulary, symbols: '[0, V)' });
    const dense = contiguous(ids);
    const tokens = dense.size;
    const { dtype, pitch: weightPitch } = weight;
    const y = empty(weight.backend, [...ids.shape, columns], options.dtype ?? (dtype === 'f16' ? 'f16' : 'f32'));
    if (isPacked(dtype)) embeddingPackedInto(dense, weight, y);
    else launch(kernels.embedding, { ids: dense, weight, y }, { tokens, vocabulary, columns, weightPitch });
    record({
      operation: 'embedding',
      inputs: [weight],
      outputs: [y],
      saved: { ids: dense },
      backward({ cotangents: [dy], saved, sums: [sum] }) {
        if (!dy) return [null];
        if (isPacked(dtype)) throw noPackedGradient('embedding', dtype);
        const dWeight = sum?.total ?? empty(dy.backend, [vocabulary, columns], dtype);
        const extents = { tokens, vocabulary, columns, dyPitch: dy.pitch, accumulate: sum?.empty === false };
        launch(kernels.embeddingBackward, { ids: saved.ids, dy, dWeight }, extents);
        if (!sum) return [dWeight];
        sum.empty = false;
        return [null];
      },
    });
      return y;
  });
}
