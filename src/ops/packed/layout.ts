/** The layout of packed weights in plain TypeScript: what the reference kernels read and write. The README describes it. */
import { blockDepth, panelRows, unitBytes, unitDepth, type PackedDType } from '../../tensor/index.js';

/** The values of int4's codes −8 … 7 in units of a block's scale: denser around zero, as weights are. */
export const int4Value = (code: number): number => code * (160 + code * code);

/** Scales tried for a block of int4: its largest weight over −1792·(26 + i)/32, i < 16, in units of that weight. */
export const int4Scales: readonly number[] = Array.from({ length: 16 }, (_, i) => Math.fround((26 + i) / 57344));

/** While scales are compared, weights and what codes stand for are whole multiples of 1/2048 of the block's largest weight. */
const searchUnit = 2048;

/** For each scale tried, what the codes −8 … 7 stand for, in search units. */
export const int4SearchLevels: readonly (readonly number[])[] = Array.from({ length: 16 }, (_, i) =>
  Array.from({ length: 16 }, (_, code) => roundEven((int4Value(code - 8) * (26 + i) * searchUnit) / 57344)),
);

/** Blocks whose weights are all smaller are zero: some processors take numbers near the smallest for zero, others do not. */
const smallest = 2 ** -90;

/** To the nearest integer, ties to even. */
function roundEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The upper half of a float32, rounded to nearest, ties to even. */
export function toBf16(value: number): number {
  float[0] = value;
  const all = bits[0] ?? 0;
  if ((all & 0x7fffffff) > 0x7f800000) return (all >>> 16) | 0x40;
  return ((all + 0x7fff + ((all >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBf16(half: number): number {
  bits[0] = half << 16;
  return float[0] ?? NaN;
}

/** What the largest magnitude of a block says of all of it. */
const blockKind = (largest: number) => (Number.isFinite(largest) ? (largest < smallest ? 'zero' : 'usual') : 'broken');

/** The scale, as the bits of a bf16, and the codes of one output's block. A weight that is no number makes all NaN. */
export function quantizeBlock(dtype: 'int8' | 'int4', weights: readonly number[]): { scale: number; codes: number[] } {
  // Of weights of the same magnitude the first.
  const largest = weights.reduce((a, b) => (Math.abs(b) > Math.abs(a) || Number.isNaN(b) ? b : a), 0);
  const kind = blockKind(Math.abs(largest));
  if (kind !== 'usual') return { scale: kind === 'zero' ? 0 : 0x7fc0, codes: weights.map(() => 0) };
  const scale = toBf16(Math.fround(dtype === 'int8' ? Math.abs(largest) * Math.fround(1 / 127) : -largest * int4Scale(weights, largest)));
  const step = fromBf16(scale);
  const code = dtype === 'int8' ? roundEven : nearestInt4;
  return { scale, codes: weights.map((weight) => code(Math.fround(weight / step))) };
}

function nearestInt4(value: number): number {
  let code = -8;
  while (code < 7 && value > (int4Value(code) + int4Value(code + 1)) / 2) code++;
  return code;
}

/** The scale with the least squared error, the first of equals. */
function int4Scale(weights: readonly number[], largest: number): number {
  const whole = weights.map((weight) => roundEven(Math.fround(weight / -largest) * searchUnit));
  let best = { error: Infinity, scale: 0 };
  int4SearchLevels.forEach((levels, i) => {
    const error = whole.reduce((sum, value) => sum + Math.min(...levels.map((level) => (value - level) ** 2)), 0);
    if (error < best.error) best = { error, scale: int4Scales[i] ?? 0 };
  });
  return best.scale;
}

/** Where the parts of one weight lie. */
export interface PackedPlace {
  /** Byte of the block's scale of this output. */
  readonly scale: number;
  /** Byte of the code, and of int4 the bit in it. */
  readonly byte: number;
  readonly bit: number;
}

/** The place of weight [row, column] in a packed weight of `columns` columns. */
export function packedPlace(dtype: PackedDType, columns: number, row: number, column: number): PackedPlace {
  const units = Math.ceil(columns / unitDepth[dtype]);
  const lane = row % panelRows;
  const depth = column % unitDepth[dtype];
  const unit = (Math.floor(row / panelRows) * units + Math.floor(column / unitDepth[dtype])) * unitBytes[dtype];
  const scale = unit + 2 * (panelRows * Math.floor(depth / blockDepth) + lane);
  // A line of 64 bytes has a word of four bytes for each output: 2, 4 or 8 inputs.
  const perWord = { bf16: 2, int8: 4, int4: 8 }[dtype];
  const word = unit + (dtype === 'bf16' ? 0 : 64) + 64 * Math.floor(depth / perWord) + 4 * lane;
  const bit = (32 / perWord) * (depth % perWord);
  return { scale, byte: word + Math.floor(bit / 8), bit: bit % 8 };
}

/** Weight [row, column] of a packed weight of `columns` columns. */
export function packedValue(dtype: PackedDType, bytes: Uint8Array, columns: number, row: number, column: number): number {
  const { scale, byte, bit } = packedPlace(dtype, columns, row, column);
  const half = (at: number) => fromBf16((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8));
  const code = bytes[byte] ?? 0;
  if (dtype === 'bf16') return half(byte);
  return half(scale) * (dtype === 'int8' ? (code << 24) >> 24 : int4Value((code << (28 - bit)) >> 28));
}

/** Packs weight(row, column), rows × columns, into bytes that are all written. */
export function packReference(
  dtype: PackedDType,
  weight: (row: number, column: number) => number,
  rows: number,
  columns: number,
  bytes: Uint8Array,
): void {
  bytes.fill(0);
  const putHalf = (at: number, half: number) => {
    bytes[at] = half & 0xff;
    bytes[at + 1] = half >> 8;
  };
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < columns; first += blockDepth) {
      const weights = Array.from({ length: Math.min(blockDepth, columns - first) }, (_, i) => weight(row, first + i));
      if (dtype === 'bf16') {
        weights.forEach((value, i) => {
          putHalf(packedPlace(dtype, columns, row, first + i).byte, toBf16(value));
        });
        continue;
      }
      const { scale, codes } = quantizeBlock(dtype, weights);
      putHalf(packedPlace(dtype, columns, row, first).scale, scale);
      codes.forEach((code, i) => {
        const { byte, bit } = packedPlace(dtype, columns, row, first + i);
        bytes[byte] = (bytes[byte] ?? 0) | ((dtype === 'int8' ? code & 0xff : (code & 0xf) << bit) & 0xff);
      });
    }
  }
}
