/** Element types of tensors in device memory. */
export type DType = 'f32' | 'i32';

/** Bytes an element takes in device memory. The reference backend stores 'f32' as float64; this is the nominal size. */
export const itemSize: Readonly<Record<DType, number>> = { f32: 4, i32: 4 };

/** What `Tensor.data()` gives: float64 from the reference backend, float32 from the others, int32 for 'i32'. */
export type HostArray = Float32Array | Float64Array | Int32Array;
