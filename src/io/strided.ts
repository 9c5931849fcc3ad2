/** Tensors that a file does not hold row by row: transposed, stepped or repeated views of a storage. */
import { storedItemSizeBytes, type StoredDType } from './stored-dtype.js';

/** Whether elements lie row by row without gaps. As in PyTorch, strides along extents 0 and 1 say nothing. */
export function isRowByRow(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    if (extent !== 1 && strides[axis] !== expected) return false;
    expected *= extent;
  }
  return true;
}

/** Elements from the first to the last of a view, both counted; 0 for one without elements. Inexact above 2⁵³, never too small. */
export function spannedItems(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((last, extent, axis) => last + (extent - 1) * (strides[axis] ?? 0), 1);
}

/**
 * Copies a view row by row.
 * @param bytes from the view's first element to its last
 */
export function toRowByRow(bytes: Uint8Array, dtype: StoredDType, shape: readonly number[], strides: readonly number[]): Uint8Array {
  const itemSize = storedItemSizeBytes(dtype);
  const result = new Uint8Array(shape.reduce((product, extent) => product * extent, itemSize));
  // Elements of 8 bytes move as two words: their values do not matter here.
  const wordSize = Math.min(itemSize, 4);
  const Words = wordSize === 4 ? Uint32Array : wordSize === 2 ? Uint16Array : Uint8Array;
  const { buffer, byteOffset } = bytes.byteOffset % wordSize === 0 ? bytes : new Uint8Array(bytes);
  const source = new Words(buffer as ArrayBuffer, byteOffset, bytes.length / wordSize);
  const target = new Words(result.buffer);
  const words = itemSize / wordSize;
  const extents = [...shape, words];
  const steps = [...strides.map((stride) => stride * words), 1];
  let to = 0;
  const copyAxis = (axis: number, from: number): void => {
    const [extent = 0, step = 0] = [extents[axis], steps[axis]];
    const last = axis === extents.length - 1;
    for (let i = 0; i < extent; i++, from += step) {
      if (last) target[to++] = source[from] ?? 0;
      else copyAxis(axis + 1, from);
    }
  };
  copyAxis(0, 0);
  return result;
}
