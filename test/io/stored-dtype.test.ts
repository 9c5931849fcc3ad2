import { describe, expect, it } from 'vitest';
import { fromFloat32, storedDTypes, toFloat32, toInt32 } from '../../src/io/index.js';
import { storedItemSizeBytes } from '../../src/io/stored-dtype.js';
import { ArgumentError, DTypeError } from '../../src/util/errors.js';

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** The same bytes at an odd address. */
function misaligned(bytes: Uint8Array): Uint8Array {
  const shifted = new Uint8Array(bytes.length + 1).subarray(1);
  shifted.set(bytes);
  return shifted;
}

/** A half's value by the definition of the format, in float64. */
function halfValue(half: number): number {
  const sign = half >= 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

const everyHalf = Uint16Array.from({ length: 65536 }, (_, i) => i);

describe('toFloat32', () => {
  it('converts every half', () => {
    const floats = toFloat32(bytesOf(everyHalf), 'F16');
    const wrong = [...everyHalf].filter((half) => !Object.is(floats[half], halfValue(half)));
    expect(wrong).toEqual([]);
  });

  it('converts bfloat16 by widening', () => {
    const bits = Uint16Array.of(0x3f80, 0xbf80, 0x0001, 0x7f80, 0xff80, 0x7fc0, 0x8000, 0x4049);
    const expected = [1, -1, 2 ** -133, Infinity, -Infinity, NaN, -0, 3.140625];
    expect([...toFloat32(bytesOf(bits), 'BF16')]).toEqual(expected);
  });

  it('rounds F64 and takes F32 as it is', () => {
    expect([...toFloat32(bytesOf(Float64Array.of(0.1, 1e300, -0)), 'F64')]).toEqual([Math.fround(0.1), Infinity, -0]);
    const floats = Float32Array.of(0.5, -3);
    expect(toFloat32(bytesOf(floats), 'F32').buffer).toBe(floats.buffer);
  });

  it.each(['F64', 'F32', 'F16', 'BF16'] as const)('reads %s at any alignment', (dtype) => {
    const bytes = fromFloat32(Float32Array.of(1, -2, 0.25), dtype);
    expect([...toFloat32(misaligned(bytes), dtype)]).toEqual([1, -2, 0.25]);
  });

  it('refuses integers and broken lengths', () => {
    expect(() => toFloat32(new Uint8Array(8), 'I64')).toThrow(DTypeError);
    expect(() => toFloat32(new Uint8Array(6), 'F32')).toThrow(ArgumentError);
    expect(() => toFloat32(new Uint8Array(6), 'F32')).toThrow('bytes is 6 bytes long; expected a multiple of 4 bytes (F32)');
  });
});

describe('toInt32', () => {
  it.each([
    ['I64', BigInt64Array.of(-1n, 2147483647n, -2147483648n), [-1, 2147483647, -2147483648]],
    ['I32', Int32Array.of(-1, 7), [-1, 7]],
    ['I16', Int16Array.of(-2, 300), [-2, 300]],
    ['I8', Int8Array.of(-3, 127), [-3, 127]],
    ['U8', Uint8Array.of(0, 255), [0, 255]],
    ['BOOL', Uint8Array.of(0, 1, 2), [0, 1, 1]],
  ] as const)('converts %s at any alignment', (dtype, values, expected) => {
    expect([...toInt32(bytesOf(values), dtype)]).toEqual(expected);
    expect([...toInt32(misaligned(bytesOf(values)), dtype)]).toEqual(expected);
    // A Node Buffer's slice shares memory, unlike a Uint8Array's.
    expect([...toInt32(Buffer.concat([Buffer.alloc(1), bytesOf(values)]).subarray(1), dtype)]).toEqual(expected);
  });

  it('refuses what does not fit, and fractions', () => {
    expect(() => toInt32(bytesOf(BigInt64Array.of(0n, 2147483648n)), 'I64')).toThrow(/item 1 is 2147483648/);
    expect(() => toInt32(bytesOf(BigInt64Array.of(-2147483649n)), 'I64')).toThrow(/item 0 is -2147483649/);
    expect(() => toInt32(new Uint8Array(4), 'F32')).toThrow(DTypeError);
  });
});

describe('fromFloat32', () => {
  it('gives back every half and every bfloat16', () => {
    const isNaNHalf = (half: number) => Number.isNaN(halfValue(half));
    const halves = new Uint16Array(fromFloat32(toFloat32(bytesOf(everyHalf), 'F16'), 'F16').buffer);
    expect([...everyHalf].filter((half) => halves[half] !== half && !isNaNHalf(half))).toEqual([]);
    expect([...everyHalf].filter((half) => isNaNHalf(half) && !isNaNHalf(halves[half] ?? 0))).toEqual([]);
    const brains = new Uint16Array(fromFloat32(toFloat32(bytesOf(everyHalf), 'BF16'), 'BF16').buffer);
    const isNaNBrain = (bits: number) => (bits & 0x7fff) > 0x7f80;
    expect([...everyHalf].filter((bits) => brains[bits] !== bits && !isNaNBrain(bits))).toEqual([]);
    expect([...everyHalf].filter((bits) => isNaNBrain(bits) && !isNaNBrain(brains[bits] ?? 0))).toEqual([]);
  });

  it('rounds between neighbouring halves to the nearer, ties to even', () => {
    // For each pair of positive neighbours: a little below, at, and a little above the middle.
    const inputs: number[] = [];
    const expected: number[] = [];
    for (let half = 0; half < 0x7bff; half++) {
      const middle = (halfValue(half) + halfValue(half + 1)) / 2; // exact in float32
      inputs.push(middle * (1 - 2 ** -20), middle, middle * (1 + 2 ** -20), -middle);
      const even = half % 2 === 0 ? half : half + 1;
      expected.push(half, even, half + 1, even | 0x8000);
    }
    const rounded = new Uint16Array(fromFloat32(Float32Array.from(inputs), 'F16').buffer);
    expect(inputs.filter((_, i) => rounded[i] !== expected[i])).toEqual([]);
  });

  it('overflows to infinity only from the middle of the last step on', () => {
    const values = Float32Array.of(65504, 65519.99, 65520, 1e10, -1e10, Infinity, 2 ** -25, 2 ** -25 * 1.01);
    const expected = [65504, 65504, Infinity, Infinity, -Infinity, Infinity, 0, 2 ** -24];
    expect([...toFloat32(fromFloat32(values, 'F16'), 'F16')]).toEqual(expected);
  });

  it('rounds bfloat16 ties to even', () => {
    const bits = Uint32Array.of(0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff, 0x7f800001);
    const brains = new Uint16Array(fromFloat32(new Float32Array(bits.buffer), 'BF16').buffer);
    expect([...brains]).toEqual([0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x7f80, 0x7fc0]);
  });
});

it('knows the size of every format', () => {
  expect(storedDTypes.map((dtype) => [dtype, storedItemSizeBytes(dtype)])).toEqual([
    ['F64', 8], ['F32', 4], ['F16', 2], ['BF16', 2], ['I64', 8], ['I32', 4], ['I16', 2], ['I8', 1], ['U8', 1], ['BOOL', 1],
  ]);
});
