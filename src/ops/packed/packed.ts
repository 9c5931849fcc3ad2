import { empty, expectRank, launch, operation, packedDTypes, panelRows, type DType, type PackedDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeValue, ShapeError } from '../../util/errors.js';
import { roundedFactors } from '../matmul/rounding.js';
import * as kernels from './kernels.js';

const byDType = {
  bf16: { pack: kernels.packBf16, unpack: kernels.unpackBf16, linear: kernels.linearBf16, embedding: kernels.embeddingBf16 },
  int8: { pack: kernels.packInt8, unpack: kernels.unpackInt8, linear: kernels.linearInt8, embedding: kernels.embeddingInt8 },
  int4: { pack: kernels.packInt4, unpack: kernels.unpackInt4, linear: kernels.linearInt4, embedding: kernels.embeddingInt4 },
};
// Kernels of the three formats differ only in the dtype of one buffer, which the tensors have.
type Entry = (typeof byDType)['bf16'];
const kernelsFor = (dtype: PackedDType): Entry => byDType[dtype] as Entry;

/** K that a packed weight may have: what a product makes of one row of activations has to fit the CPU threads' shared memory. */
const mostInputs = 2 ** 21;

/**
 * A weight in a format for inference, packed once to be read fast and often. `linear`, `embedding`, `tokenLosses` and
 * `linearCrossEntropy` (without gradients) take it in place of the f32 weight. The same bytes on every machine.
 * @param weight [N,K] f32
 * @param dtype 'bf16' (2 bytes a weight), 'int8' (1.06) or 'int4' (0.56); the README of `ops/packed` tells their errors
 * @returns [N,K] of that dtype; its `data()` are the bytes of the layout
 * @throws DTypeError when weight is not f32; ShapeError when it is no matrix, or K is above 2²¹; ArgumentError for another dtype
 */
export function packWeight<D extends PackedDType>(weight: Tensor, dtype: D): Tensor<D> {
  if (!packedDTypes.includes(dtype)) {
    throw new ArgumentError({ operation: 'packWeight', argument: 'dtype', expected: packedDTypes.join(', '), got: describeValue(dtype) });
  }
  return operation('packWeight', { weight: [weight, 'f32'] }, () => {
    expectRank('packWeight', 'weight', weight.shape, 2, '[N,K]');
    if (weight.columns > mostInputs) {
      const [argument, expected, got] = ['weight', `[N,K] with K at most ${mostInputs}`, `[${weight.shape.join(',')}]`];
      throw new ShapeError({ operation: 'packWeight', argument, expected, got });
    }
    const packed = empty(weight.backend, weight.shape, dtype);
    const { rows, columns, pitch: weightPitch } = weight;
    launch(kernelsFor(dtype).pack, { weight, packed }, { rows, columns, weightPitch });
    return packed;
  });
}

/**
 * The values of a packed weight.
 * @param packed [N,K], packed
 * @returns [N,K] f32
 * @throws DTypeError when the weight is not packed
 */
export function unpackWeight(packed: Tensor): Tensor<'f32'> {
  return operation('unpackWeight', { packed: [packed, 'packed'] }, () => {
    const { dtype, rows, columns } = packed;
    const weight = empty(packed.backend, packed.shape, 'f32');
    launch(kernelsFor(dtype as PackedDType).unpack, { packed, weight }, { rows, columns });
    return weight;
  });
}

/** Launches c = a·weightᵀ + bias with a packed weight. Not recorded and not checked: operations check. */
export function linearPackedInto(a: Tensor, weight: Tensor, c: Tensor, bias: Tensor | null): void {
  const { rows: n, columns: k, backend, dtype } = weight;
  const rounded = roundedFactors(backend.precision, a.rows);
  // The CPU's product of many rows takes bf16: integers become that a part at a time, in memory that a cache can keep.
  const chunk = Math.min(n, panelRows * Math.max(1, Math.floor(2 ** 20 / (2 * panelRows * k))));
  const space = rounded.bf16 && dtype !== 'bf16' ? empty(backend, [chunk, k], 'bf16') : null;
  launch(
    kernelsFor(dtype as PackedDType).linear,
    { a, weight, bias, space, c },
    { m: a.rows, n, k, lda: a.pitch, ldc: c.pitch, ...rounded, chunk },
  );
  space?.dispose();
}

/** Launches y[t] = weight[ids[t]] with a packed weight; `ids` is dense. Not recorded and not checked. */
export function embeddingPackedInto(ids: Tensor, weight: Tensor, y: Tensor): void {
  const { rows: vocabulary, columns } = weight;
  launch(kernelsFor(weight.dtype as PackedDType).embedding, { ids, weight, y }, { tokens: ids.size, vocabulary, columns });
}

/** What an operation throws when it is asked for gradients and a weight is packed. */
export function noPackedGradient(operation: string, dtype: DType): ArgumentError {
  return new ArgumentError({
    operation,
    argument: 'weight',
    expected: 'f32 where gradients are wanted',
    got: dtype,
    hint: "packed weights are for inference: load the model with dtype 'f32' to train it",
  });
}
