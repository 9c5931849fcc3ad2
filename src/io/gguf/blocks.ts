/**
 * Tensor types of GGUF: how numbers lie in blocks. Decoding computes what llama.cpp's `dequantize_row_*` does, in float32.
 * Source: ggml's `ggml-common.h` (layouts) and `ggml-quants.c`.
 */
import { fromFloat32, numberFromHalf, toFloat32 } from '../stored-dtype.js';

/** A type that is read. */
export interface BlockType {
  /** As llama.cpp writes it. */
  readonly name: string;
  readonly number: number;
  /** Numbers in a block, and the block's bytes. */
  readonly values: number;
  readonly bytes: number;
  decode(bytes: Uint8Array): Float32Array;
}

/** A type that is written. */
export type GgufType = 'f32' | 'f16' | 'q8_0';

/** A block among others. */
interface Block {
  readonly bytes: Uint8Array;
  readonly start: number;
}

/** Decodes a block into `to`, from `at` on. */
type DecodeBlock = (block: Block, to: Float32Array, at: number) => void;

const { fround } = Math;

function blockType(name: string, number: number, values: number, bytes: number, decodeBlock: DecodeBlock): BlockType {
  const decode = (stored: Uint8Array): Float32Array => {
    const count = stored.length / bytes;
    const result = new Float32Array(count * values);
    for (let i = 0; i < count; i++) {
      decodeBlock({ bytes: stored, start: i * bytes }, result, i * values);
    }
    return result;
  };
  return { name, number, values, bytes, decode };
}

const plain = (name: string, number: number, bytes: number, dtype: 'F32' | 'F16' | 'BF16'): BlockType => ({
  ...{ name, number, values: 1, bytes },
  decode: (stored) => toFloat32(stored, dtype),
});

/** The byte at `at`; every use is inside the block. */
const byteAt = ({ bytes, start }: Block, at: number): number => bytes[start + at] ?? 0;
const halfAt = (block: Block, at: number): number => numberFromHalf(byteAt(block, at) | (byteAt(block, at + 1) << 8));
const signed = (byte: number): number => (byte << 24) >> 24;

/** 32 whole numbers of 4 bits less 8: the lower halves of 16 bytes, then the upper ones. */
const q4_0 = blockType('q4_0', 2, 32, 18, (block, to, at) => {
  const scale = halfAt(block, 0);
  for (let i = 0; i < 16; i++) {
    const pair = byteAt(block, 2 + i);
    to[at + i] = ((pair & 15) - 8) * scale;
    to[at + 16 + i] = ((pair >> 4) - 8) * scale;
  }
});

/** 32 signed bytes. */
const q8_0 = blockType('q8_0', 8, 32, 34, (block, to, at) => {
  const scale = halfAt(block, 0);
  for (let i = 0; i < 32; i++) to[at + i] = signed(byteAt(block, 2 + i)) * scale;
});

/** Eight groups of 32 with a scale and a minimum of 6 bits each, which 12 bytes hold; 4 bits a number. */
const q4_k = blockType('q4_k', 12, 256, 144, (block, to, at) => {
  const [scale, minimum] = [halfAt(block, 0), halfAt(block, 2)];
  const packed = (i: number): number => byteAt(block, 4 + i);
  for (let group = 0; group < 8; group++) {
    const low = group < 4;
    const s = low ? packed(group) & 63 : (packed(group + 4) & 15) | ((packed(group - 4) >> 6) << 4);
    const m = low ? packed(group + 4) & 63 : (packed(group + 4) >> 4) | ((packed(group) >> 6) << 4);
    const [step, least] = [fround(scale * s), fround(minimum * m)];
    // Two groups share 32 bytes: the lower halves are the first one's.
    const shift = 4 * (group % 2);
    for (let i = 0; i < 32; i++) {
      const q = (byteAt(block, 16 + 32 * (group >> 1) + i) >> shift) & 15;
      to[at + 32 * group + i] = fround(step * q) - least;
    }
  }
});

/** Sixteen groups of 16 with a signed byte as scale; of each number 4 lower bits and 2 upper ones, less 32. */
const q6_k = blockType('q6_k', 14, 256, 210, (block, to, at) => {
  const scale = halfAt(block, 208);
  for (let i = 0; i < 256; i++) {
    const [half, quarter, place] = [i >> 7, (i >> 5) & 3, i & 31];
    const low = (byteAt(block, 64 * half + 32 * (quarter & 1) + place) >> (4 * (quarter >> 1))) & 15;
    const high = (byteAt(block, 128 + 32 * half + place) >> (2 * quarter)) & 3;
    const step = fround(scale * signed(byteAt(block, 192 + (i >> 4))));
    to[at + i] = step * ((low | (high << 4)) - 32);
  }
});

/** All types that are read. */
export const blockTypes = {
  ...{ f32: plain('f32', 0, 4, 'F32'), f16: plain('f16', 1, 2, 'F16'), bf16: plain('bf16', 30, 2, 'BF16') },
  ...{ q4_0, q8_0, q4_k, q6_k },
} as const;

const others: Readonly<Record<number, string>> = {
  ...{ 3: 'q4_1', 6: 'q5_0', 7: 'q5_1', 9: 'q8_1', 10: 'q2_k', 11: 'q3_k', 13: 'q5_k', 15: 'q8_k', 16: 'iq2_xxs', 17: 'iq2_xs', 18: 'iq3_xxs', 19: 'iq1_s' },
  ...{ 20: 'iq4_nl', 21: 'iq3_s', 22: 'iq2_s', 23: 'iq4_xs', 24: 'i8', 25: 'i16', 26: 'i32', 27: 'i64', 28: 'f64', 29: 'iq1_m', 34: 'tq1_0', 35: 'tq2_0', 39: 'mxfp4' },
};

/** The type of a number, or the name of one that is not read. */
export const typeNamed = (number: number): BlockType | string =>
  Object.values(blockTypes).find((type) => type.number === number) ?? others[number] ?? `number ${number}`;

/** Bytes of numbers in a type; in q8_0 a multiple of 32 of them. */
export function encodeBlocks(values: Float32Array, type: GgufType): Uint8Array {
  if (type !== 'q8_0') return fromFloat32(values, type === 'f16' ? 'F16' : 'F32');
  const result = new Uint8Array((values.length / 32) * 34);
  for (let block = 0; block < values.length / 32; block++) {
    const own = values.subarray(32 * block, 32 * block + 32);
    const scale = fround(own.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0) / 127);
    const inverse = scale === 0 ? 0 : fround(1 / scale);
    result.set(fromFloat32(Float32Array.of(scale), 'F16'), 34 * block);
    // Halves away from zero, as C's roundf has them.
    own.forEach((x, i) => (result[34 * block + 2 + i] = Math.sign(x) * Math.floor(Math.abs(fround(x * inverse)) + 0.5)));
  }
  return result;
}
