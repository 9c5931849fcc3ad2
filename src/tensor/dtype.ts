import type { Shape } from './shape.js';

/**
 * Formats of weights for inference: matrices [N,K], one row an output, in an opaque layout made for reading once, in order
 * (`ops/packed/README.md`). 'bf16' rounds to 8 bits; 'int8' and 'int4' share a scale among 32 inputs of an output.
 */
export type PackedDType = 'bf16' | 'int8' | 'int4';

/**
 * Element types of tensors in device memory. 'f16' is storage only: kernels compute in float32. Of the CPU's kernels, those alone
 * take it that keep keys and values and copy.
 */
export type DType = 'f32' | 'f16' | 'i32' | PackedDType;

/** Element types whose values are read and written as float32. */
export type FloatDType = 'f32' | 'f16';

/** All packed formats, the largest first. */
export const packedDTypes: readonly PackedDType[] = ['bf16', 'int8', 'int4'];

export const isPacked = (dtype: DType): dtype is PackedDType => (packedDTypes as readonly DType[]).includes(dtype);

/**
 * Bytes an item of a buffer takes in device memory; the items of packed buffers are bytes. The reference backend stores
 * 'f32' as float64; this is the nominal size.
 */
export const itemSize: Readonly<Record<DType, number>> = { f32: 4, f16: 2, i32: 4, bf16: 1, int8: 1, int4: 1 };

/** Outputs (rows of a weight) of a panel, and inputs of a block, which are what shares a scale. */
export const panelRows = 16;
export const blockDepth = 32;

/** Inputs of a panel's unit, the step in which it is read: one block, or, of integers, two. */
export const unitDepth: Readonly<Record<PackedDType, number>> = { bf16: 32, int8: 64, int4: 64 };

/** Bytes of a unit, a multiple of a cache line's 64: of integers the 2 × 16 scales of two bytes go before the codes. */
export const unitBytes: Readonly<Record<PackedDType, number>> = { bf16: 1024, int8: 64 + 1024, int4: 64 + 512 };

/** Bytes of a packed weight [rows, columns]. */
export const packedSizeBytes = (dtype: PackedDType, rows: number, columns: number): number =>
  Math.ceil(rows / panelRows) * Math.ceil(columns / unitDepth[dtype]) * unitBytes[dtype];

/** Items of the buffer of a tensor: its elements, or the bytes of a packed weight. */
export function bufferSize(dtype: DType, shape: Shape): number {
  return isPacked(dtype) ? packedSizeBytes(dtype, shape[0] ?? 0, shape[1] ?? 0) : shape.reduce((size, extent) => size * extent, 1);
}

/** What `Tensor.data()` gives: float32 for 'f32' and 'f16', int32 for 'i32', the bytes of the layout for packed weights. */
export type HostArray<D extends DType = DType> = D extends FloatDType ? Float32Array : D extends 'i32' ? Int32Array : Uint8Array;
