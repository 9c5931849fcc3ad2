/** GGUF files for tests: blocks that are packed as ggml's `quantize_row_*` lay them out, and files with anything in them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { platform } from '#platform';
import { fromFloat32, toFloat32 } from '../../src/io/index.js';
import { readGgufHeader, type GgufHeader } from '../../src/io/gguf/gguf-file.js';
import { ggufChunks, type GgufSource, type Pairs } from '../../src/io/gguf/gguf-writer.js';

/** Bytes of blocks, and the numbers that they stand for. */
export interface Packed {
  readonly bytes: Uint8Array;
  readonly values: Float32Array;
}

const half = (x: number): number => toFloat32(fromFloat32(Float32Array.of(x), 'F16'), 'F16')[0] ?? 0;
const halfBytes = (x: number): Uint8Array => fromFloat32(Float32Array.of(x), 'F16');
const clamp = (x: number, least: number, most: number): number => Math.min(most, Math.max(least, Math.round(x)));
const item = (list: ArrayLike<number>, i: number): number => list[i] ?? 0;

function packEach(values: Float32Array, size: number, pack: (block: Float32Array) => { bytes: Uint8Array; values: number[] }): Packed {
  const blocks = Array.from({ length: values.length / size }, (_, i) => pack(values.subarray(i * size, (i + 1) * size)));
  return { bytes: Uint8Array.from(blocks.flatMap(({ bytes }) => [...bytes])), values: Float32Array.from(blocks.flatMap((block) => block.values)) };
}

/** Places of numbers in blocks are those of the C code, written out as it has them: not those of the reader. */
export const packers: Readonly<Record<'bf16' | 'q4_0' | 'q8_0' | 'q4_k' | 'q6_k', (values: Float32Array) => Packed>> = {
  bf16: (values) => {
    const bytes = fromFloat32(values, 'BF16');
    return { bytes, values: toFloat32(bytes, 'BF16') };
  },
  q4_0: (values) =>
    packEach(values, 32, (block) => {
      const d = half(Math.max(...block.map(Math.abs)) / 8);
      const q = Array.from(block, (x) => clamp(x / d + 8, 0, 15));
      const bytes = new Uint8Array(18);
      bytes.set(halfBytes(d));
      for (let j = 0; j < 16; j++) bytes[2 + j] = item(q, j) | (item(q, j + 16) << 4);
      return { bytes, values: q.map((x) => d * (x - 8)) };
    }),
  q8_0: (values) =>
    packEach(values, 32, (block) => {
      const d = half(Math.max(...block.map(Math.abs)) / 127);
      const q = Array.from(block, (x) => clamp(x / d, -127, 127));
      const bytes = new Uint8Array(34);
      bytes.set(halfBytes(d));
      bytes.set(Int8Array.from(q), 2);
      return { bytes, values: q.map((x) => d * x) };
    }),
  q4_k: (values) =>
    packEach(values, 256, (block) => {
      const groups = Array.from({ length: 8 }, (_, j) => block.subarray(32 * j, 32 * j + 32));
      const minima = groups.map((group) => Math.max(0, -Math.min(...group)));
      const steps = groups.map((group, j) => (Math.max(...group) + item(minima, j)) / 15);
      const [d, dmin] = [half(Math.max(...steps) / 63), half(Math.max(...minima) / 63)];
      const ls = steps.map((step) => clamp(step / d, 0, 63));
      const lm = minima.map((minimum) => clamp(minimum / dmin, 0, 63));
      const bytes = new Uint8Array(144);
      bytes.set(halfBytes(d));
      bytes.set(halfBytes(dmin), 2);
      const scales = bytes.subarray(4, 16);
      for (let j = 0; j < 8; j++) {
        if (j < 4) {
          scales[j] = item(ls, j);
          scales[j + 4] = item(lm, j);
        } else {
          scales[j + 4] = (item(ls, j) & 0xf) | ((item(lm, j) & 0xf) << 4);
          scales[j - 4] = item(scales, j - 4) | ((item(ls, j) >> 4) << 6);
          scales[j] = item(scales, j) | ((item(lm, j) >> 4) << 6);
        }
      }
      const L = Array.from(block, (x, i) => clamp((x + dmin * item(lm, i >> 5)) / (d * item(ls, i >> 5)), 0, 15));
      for (let j = 0, q = 16; j < 256; j += 64, q += 32) for (let l = 0; l < 32; l++) bytes[q + l] = item(L, j + l) | (item(L, j + l + 32) << 4);
      return { bytes, values: L.map((x, i) => d * item(ls, i >> 5) * x - dmin * item(lm, i >> 5)) };
    }),
  q6_k: (values) =>
    packEach(values, 256, (block) => {
      const steps = Array.from({ length: 16 }, (_, j) => Math.max(...block.subarray(16 * j, 16 * j + 16).map(Math.abs)) / 31);
      // Signed scales: every other one is turned around.
      const d = half(Math.max(...steps) / 127);
      const scales = steps.map((step, j) => (j % 2 === 0 ? 1 : -1) * Math.max(1, clamp(step / d, 0, 127)));
      const L = Array.from(block, (x, i) => clamp(x / (d * item(scales, i >> 4)), -32, 31) + 32);
      const bytes = new Uint8Array(210);
      for (let j = 0, ql = 0, qh = 128; j < 256; j += 128, ql += 64, qh += 32) {
        for (let l = 0; l < 32; l++) {
          const [q1, q2, q3, q4] = [item(L, j + l), item(L, j + l + 32), item(L, j + l + 64), item(L, j + l + 96)];
          bytes[ql + l] = (q1 & 0xf) | ((q3 & 0xf) << 4);
          bytes[ql + l + 32] = (q2 & 0xf) | ((q4 & 0xf) << 4);
          bytes[qh + l] = (q1 >> 4) | ((q2 >> 4) << 2) | ((q3 >> 4) << 4) | ((q4 >> 4) << 6);
        }
      }
      bytes.set(Int8Array.from(scales), 192);
      bytes.set(halfBytes(d), 208);
      return { bytes, values: L.map((x, i) => d * item(scales, i >> 4) * (x - 32)) };
    }),
};

export async function headerOf(path: string): Promise<GgufHeader> {
  const file = await platform.openFile(path);
  try {
    return await readGgufHeader(file);
  } finally {
    await file.close();
  }
}

/** A file's pairs as the writer takes them, and its tensors. */
export async function contentOf(path: string): Promise<{ pairs: [string, Pairs[number][1]][]; tensors: GgufSource[] }> {
  const { metadata, tensors } = await headerOf(path);
  const bytes = readFileSync(path);
  return {
    pairs: [...metadata].map(([key, value]) => [key, typeof value === 'number' && !Number.isInteger(value) ? { f32: value } : value]),
    tensors: [...tensors.values()].map(({ name, shape, type, offset, sizeBytes }) => ({
      ...{ name, shape, type: type.name as GgufSource['type'], bytes: Uint8Array.from(bytes.subarray(offset, offset + sizeBytes)) },
    })),
  };
}

export function writeContent(path: string, pairs: Pairs, tensors: readonly GgufSource[]): void {
  writeFileSync(path, Buffer.concat([...ggufChunks(pairs, tensors)]));
}

/** A vocabulary that is made up: a token for each id. llama.cpp's programs tokenize something while they load. */
export const madeUpTokenizer = (size: number) => ({
  definition: {
    ...{ added_tokens: [], normalizer: null, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false }, decoder: { type: 'ByteLevel' } },
    model: { type: 'BPE', vocab: Object.fromEntries(Array.from({ length: size }, (_, id) => [`t${id}`, id])), merges: ['t 0'] },
  },
  config: {},
});
