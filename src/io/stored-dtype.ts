/**
 * The number formats a checkpoint file may hold, and their conversion to and from what the kernels compute with.
 * Files are little-endian, and so is every machine this package runs on: typed arrays may be laid over file bytes.
 */
import { ArgumentError, DTypeError } from '../util/errors.js';

const itemSizes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;

/** A number format in a checkpoint, named as safetensors names it. */
export type StoredDType = keyof typeof itemSizes;

/** The stored formats that hold fractions. */
export type StoredFloatDType = 'F64' | 'F32' | 'F16' | 'BF16';

/** All stored formats. */
export const storedDTypes = Object.keys(itemSizes) as readonly StoredDType[];

/** Whether `name` is a format this package reads. */
export function isStoredDType(name: unknown): name is StoredDType {
  return typeof name === 'string' && Object.hasOwn(itemSizes, name);
}

/** Bytes per number of `dtype`. */
export function storedItemSizeBytes(dtype: StoredDType): number {
  return itemSizes[dtype];
}

/**
 * Converts stored floating-point numbers to float32, rounding F64 to nearest.
 * @param bytes little-endian numbers; any alignment
 * @returns for F32 at a 4-byte boundary a view that shares memory with `bytes`, otherwise a new array
 * @throws DTypeError when `dtype` holds integers; ArgumentError when `bytes` is not a whole number of items
 */
export function toFloat32(bytes: Uint8Array, dtype: StoredDType): Float32Array {
  const count = countItems('toFloat32', bytes, dtype);
  switch (dtype) {
    case 'F32': {
      const aligned = alignedTo(bytes, 4);
      return new Float32Array(aligned.buffer, aligned.byteOffset, count);
    }
    case 'F64': {
      const aligned = alignedTo(bytes, 8);
      return Float32Array.from(new Float64Array(aligned.buffer, aligned.byteOffset, count));
    }
    case 'F16': {
      const aligned = alignedTo(bytes, 2);
      const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
      const bits = new Uint32Array(count);
      const table = getHalfTable();
      // Every index is inside: `table` has an item for each of the 65,536 values of a half.
      for (let i = 0; i < count; i++) bits[i] = table[halves[i] ?? 0] ?? 0;
      return new Float32Array(bits.buffer);
    }
    case 'BF16': {
      const aligned = alignedTo(bytes, 2);
      const upperHalves = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
      const bits = new Uint32Array(count);
      for (let i = 0; i < count; i++) bits[i] = (upperHalves[i] ?? 0) << 16;
      return new Float32Array(bits.buffer);
    }
    default:
      throw new DTypeError({
        operation: 'toFloat32',
        argument: 'dtype',
        expected: 'F64, F32, F16 or BF16',
        got: dtype,
        hint: 'toInt32 converts stored integers.',
      });
  }
}

/**
 * Converts stored integers to int32; BOOL gives 0 or 1.
 * @param bytes little-endian numbers; any alignment
 * @returns a new array
 * @throws DTypeError when `dtype` holds fractions; ArgumentError when `bytes` is not a whole number of items or an
 *   I64 does not fit in 32 bits
 */
export function toInt32(bytes: Uint8Array, dtype: StoredDType): Int32Array {
  const count = countItems('toInt32', bytes, dtype);
  switch (dtype) {
    case 'I64':
      return narrowInt64(bytes, count);
    case 'I32': {
      // Not bytes.slice(): a Node Buffer's slice shares memory and may be unaligned.
      return new Int32Array(new Uint8Array(bytes).buffer);
    }
    case 'I16': {
      const aligned = alignedTo(bytes, 2);
      return Int32Array.from(new Int16Array(aligned.buffer, aligned.byteOffset, count));
    }
    case 'I8':
      return Int32Array.from(new Int8Array(bytes.buffer, bytes.byteOffset, count));
    case 'U8':
      return Int32Array.from(bytes);
    case 'BOOL':
      return Int32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1));
    default:
      throw new DTypeError({
        operation: 'toInt32',
        argument: 'dtype',
        expected: 'I64, I32, I16, I8, U8 or BOOL',
        got: dtype,
        hint: 'toFloat32 converts stored fractions.',
      });
  }
}

/**
 * Converts float32 numbers to bytes of a stored format, rounding to nearest, ties to even; too large becomes infinity.
 * @returns for F32 a view that shares memory with `values`, otherwise a new array
 */
export function fromFloat32(values: Float32Array, dtype: StoredFloatDType): Uint8Array {
  switch (dtype) {
    case 'F32':
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case 'F64':
      return new Uint8Array(Float64Array.from(values).buffer);
    case 'F16':
      return roundEach(values, halfFromBits);
    case 'BF16':
      return roundEach(values, bfloat16FromBits);
  }
}

function countItems(operation: string, bytes: Uint8Array, dtype: StoredDType): number {
  const itemSize = itemSizes[dtype];
  if (bytes.byteLength % itemSize !== 0) {
    throw new ArgumentError({
      operation,
      argument: 'bytes',
      expected: `a multiple of ${itemSize} bytes (${dtype})`,
      got: `${bytes.byteLength} bytes long`,
    });
  }
  return bytes.byteLength / itemSize;
}

/** Typed arrays refuse unaligned memory, and tensors in a file start anywhere: copy those that do. */
function alignedTo(bytes: Uint8Array, itemSize: number): Uint8Array {
  return bytes.byteOffset % itemSize === 0 ? bytes : new Uint8Array(bytes);
}

function narrowInt64(bytes: Uint8Array, count: number): Int32Array {
  const aligned = alignedTo(bytes, 4);
  const words = new Int32Array(aligned.buffer, aligned.byteOffset, count * 2);
  const values = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const low = words[2 * i] ?? 0;
    const high = words[2 * i + 1] ?? 0;
    // A number fits when its upper half only repeats the sign of its lower half.
    if (high !== low >> 31) {
      throw new ArgumentError({
        operation: 'toInt32',
        argument: `item ${i}`,
        expected: 'a value that fits in 32 bits',
        got: String((BigInt(high) << 32n) | BigInt(low >>> 0)),
      });
    }
    values[i] = low;
  }
  return values;
}

let halfTable: Uint32Array | undefined;

/** The float32 bits of all 65,536 halves: one look-up per number is faster than the arithmetic, and made on first use. */
function getHalfTable(): Uint32Array {
  halfTable ??= Uint32Array.from({ length: 1 << 16 }, (_, half) => float32BitsFromHalf(half));
  return halfTable;
}

/** The number that 16 bits of a half stand for. */
export function numberFromHalf(half: number): number {
  scratchBits[0] = getHalfTable()[half] ?? 0;
  return scratchFloat[0] ?? 0;
}

function float32BitsFromHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (fraction << 13)) >>> 0; // infinity, NaN with its payload
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0; // biases: 127 − 15 = 112
  // Zero and subnormals are fraction · 2⁻²⁴, which float32 holds exactly.
  return (sign | bitsOf(fraction * 2 ** -24)) >>> 0;
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

function bitsOf(value: number): number {
  scratchFloat[0] = value;
  return scratchBits[0] ?? 0;
}

function roundEach(values: Float32Array, round: (bits: number) => number): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const rounded = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) rounded[i] = round(bits[i] ?? 0);
  return new Uint8Array(rounded.buffer);
}

function bfloat16FromBits(bits: number): number {
  // A NaN must not be rounded: the carry could turn it into infinity. Set the quiet bit and cut.
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function halfFromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff); // NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2¹⁶ and above; [65520, 2¹⁶) gets there by the carry below
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - (112 << 23);
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Below 2⁻¹⁴ a half counts in steps of 2⁻²⁴, the spacing of float32 in [0.5, 1): adding 0.5 rounds to that step.
  scratchBits[0] = magnitude;
  return sign | (bitsOf((scratchFloat[0] ?? 0) + 0.5) - 0x3f000000);
}
