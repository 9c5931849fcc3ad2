// Writes a checkpoint as a GGUF file, so that llama.cpp runs the very weights that are run here.
//
// The vocabulary is made up (a token for each id): nothing is tokenized, and no file of anybody else's is needed. Layout:
// a header, key-value pairs, the list of tensors, then their data, each aligned to 32 bytes, all little-endian.
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import { openCheckpoint, toFloat32 } from 'elapid/io';

/** @typedef {'f32' | 'f16' | 'q8_0'} GgufType */
/** @typedef {Float32Array<ArrayBufferLike>} Values */

/**
 * A tensor in llama.cpp's name: the key it comes from, its shape (row-major), whether it is a matrix, which may be rounded, and what is
 * done to its values.
 * @typedef {{name: string, key: string, shape: number[], matrix: boolean, change: (values: Values) => Values}} GgufTensor
 */

/**
 * What llama.cpp is told of a model: its architecture, whose name begins the keys of `sizes` (whole numbers) and `reals`, and its tensors.
 * @typedef {{architecture: string, vocabularySize: number, sizes: Record<string, number>, reals: Record<string, number>, tensors: GgufTensor[]}} GgufModel
 */

const alignment = 32;
const typeNumbers = { f32: 0, f16: 1, q8_0: 8 };
/** Values of a block and its bytes: q8_0 is 32 signed bytes and the f16 they are multiplied with. */
const blocks = { f32: [1, 4], f16: [1, 2], q8_0: [32, 34] };
const valueKinds = { u32: 4, f32: 6, string: 8, array: 9, i32: 5 };

const aligned = (/** @type {number} */ size) => Math.ceil(size / alignment) * alignment;

/** Bytes, appended. */
class Writer {
  #bytes = Buffer.alloc(1 << 16);
  length = 0;

  #reserve(/** @type {number} */ size) {
    if (this.length + size > this.#bytes.length) {
      const larger = Buffer.alloc(2 * (this.length + size));
      this.#bytes.copy(larger, 0, 0, this.length);
      this.#bytes = larger;
    }
    const at = this.length;
    this.length += size;
    return at;
  }
  u32(/** @type {number} */ x) {
    const at = this.#reserve(4);
    this.#bytes.writeUInt32LE(x, at);
  }
  u64(/** @type {number} */ x) {
    const at = this.#reserve(8);
    this.#bytes.writeBigUInt64LE(BigInt(x), at);
  }
  f32(/** @type {number} */ x) {
    const at = this.#reserve(4);
    this.#bytes.writeFloatLE(x, at);
  }
  string(/** @type {string} */ text) {
    const size = Buffer.byteLength(text);
    this.u64(size);
    const at = this.#reserve(size);
    this.#bytes.write(text, at);
  }
  get bytes() {
    return this.#bytes.subarray(0, this.length);
  }
}

/**
 * Float16 bits of a float32, rounded to nearest, ties to even.
 * @param {Values} values
 */
export function toFloat16Bits(values) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const x = /** @type {number} */ (bits[i]);
    const sign = (x >>> 16) & 0x8000;
    const magnitude = x & 0x7fffffff;
    let half;
    if (magnitude >= 0x47800000) half = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    else if (magnitude < 0x38800000) {
      // Subnormal: 2⁻²⁴ is the unit. Adding ½ in float32 arithmetic rounds to it.
      const scaled = Math.abs(/** @type {number} */ (values[i])) * 2 ** 24;
      const floor = Math.floor(scaled);
      const rest = scaled - floor;
      half = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
    } else {
      const rebased = magnitude - 0x38000000;
      half = (rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13;
    }
    result[i] = sign | half;
  }
  return result;
}

/** @param {Values} values */
function toQ8(values) {
  const bytes = Buffer.alloc((values.length / 32) * 34);
  const scales = new Float32Array(values.length / 32);
  for (let block = 0; block < scales.length; block++) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(/** @type {number} */ (values[32 * block + i])));
    scales[block] = largest / 127;
    const inverse = largest === 0 ? 0 : 127 / largest;
    for (let i = 0; i < 32; i++) {
      bytes.writeInt8(Math.round(/** @type {number} */ (values[32 * block + i]) * inverse), 34 * block + 2 + i);
    }
  }
  toFloat16Bits(scales).forEach((bits, block) => bytes.writeUInt16LE(bits, 34 * block));
  return bytes;
}

/**
 * @param {Values} values
 * @param {GgufType} type
 */
function encode(values, type) {
  if (type === 'q8_0') return toQ8(values);
  const array = type === 'f16' ? toFloat16Bits(values) : values;
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

/** The key-value pairs of a model. @param {GgufModel} model */
function metadata({ architecture, vocabularySize, sizes, reals }) {
  const writer = new Writer();
  let count = 0;
  const key = (/** @type {string} */ name, /** @type {keyof typeof valueKinds} */ kind) => {
    count++;
    writer.string(name);
    writer.u32(valueKinds[kind]);
  };
  const u32 = (/** @type {string} */ name, /** @type {number} */ value) => (key(name, 'u32'), writer.u32(value));
  const string = (/** @type {string} */ name, /** @type {string} */ value) => (key(name, 'string'), writer.string(value));
  const list = (/** @type {string} */ name, /** @type {'i32' | 'string'} */ kind, /** @type {(number | string)[]} */ values) => {
    key(name, 'array');
    writer.u32(valueKinds[kind]);
    writer.u64(values.length);
    for (const value of values) {
      if (typeof value === 'string') writer.string(value);
      else writer.u32(value);
    }
  };
  string('general.architecture', architecture);
  string('general.name', 'random');
  for (const [name, value] of Object.entries(sizes)) u32(`${architecture}.${name}`, value);
  for (const [name, value] of Object.entries(reals)) {
    key(`${architecture}.${name}`, 'f32');
    writer.f32(value);
  }
  string('tokenizer.ggml.model', 'gpt2');
  string('tokenizer.ggml.pre', 'default');
  const tokens = Array.from({ length: vocabularySize }, (_, id) => `t${id}`);
  list('tokenizer.ggml.tokens', 'string', tokens);
  list('tokenizer.ggml.token_type', 'i32', tokens.map(() => 1));
  list('tokenizer.ggml.merges', 'string', ['t 0']);
  // An end of text that random weights are unlikely to choose; if they do, generation goes on all the same.
  u32('tokenizer.ggml.bos_token_id', 0);
  u32('tokenizer.ggml.eos_token_id', 0);
  return { count, bytes: writer.bytes };
}

/**
 * Writes the model in `folder` as GGUF. Matrices are stored as `type`;
 * in q8_0, one whose rows are no multiple of 32 long as f16, as llama.cpp's own converter does; all else in f32.
 * @param {string} folder
 * @param {GgufModel} model
 * @param {string} path
 * @param {GgufType} type
 */
export async function writeGguf(folder, model, path, type) {
  const checkpoint = await openCheckpoint(folder);
  try {
    const tensors = model.tensors.map((tensor) => {
      const rows = tensor.shape.at(-1) ?? 1;
      const own = !tensor.matrix ? 'f32' : type === 'q8_0' && rows % 32 !== 0 ? 'f16' : type;
      const [values, bytes] = /** @type {[number, number]} */ (blocks[own]);
      const size = tensor.shape.reduce((a, b) => a * b);
      return { ...tensor, type: own, sizeBytes: (size / values) * bytes };
    });
    const pairs = metadata(model);
    const head = new Writer();
    head.u32(0x46554747); // 'GGUF'
    head.u32(3);
    head.u64(tensors.length);
    head.u64(pairs.count);
    const infos = new Writer();
    let offset = 0;
    for (const { name, shape, type: own, sizeBytes } of tensors) {
      infos.string(name);
      infos.u32(shape.length);
      for (const extent of shape.toReversed()) infos.u64(extent);
      infos.u32(typeNumbers[own]);
      infos.u64(offset);
      offset += aligned(sizeBytes);
    }
    const file = createWriteStream(`${path}.tmp`);
    const write = async (/** @type {Uint8Array} */ bytes) => {
      if (!file.write(bytes)) await once(file, 'drain');
    };
    await write(Buffer.concat([head.bytes, pairs.bytes, infos.bytes]));
    const headerSize = head.length + pairs.bytes.length + infos.length;
    await write(Buffer.alloc(aligned(headerSize) - headerSize));
    for (const { key, type: own, sizeBytes, change } of tensors) {
      const entry = checkpoint.entries.get(key);
      if (entry === undefined) throw new Error(`${folder} has no ${key}`);
      await write(encode(change(toFloat32(await checkpoint.read(entry), entry.dtype)), own));
      await write(Buffer.alloc(aligned(sizeBytes) - sizeBytes));
    }
    file.end();
    await finished(file);
    await rename(`${path}.tmp`, path);
  } finally {
    await checkpoint.close();
  }
}
