/** The GGUF format, writing. */
import { ggufMagic, valueKinds, type GgufValue } from './gguf-file.js';
import { blockTypes } from './blocks.js';

/** A tensor to be written. */
export interface GgufSource {
  readonly name: string;
  /** Row-major. */
  readonly shape: readonly number[];
  readonly type: keyof typeof blockTypes;
  readonly bytes: Uint8Array;
}

/** A value with its kind, where the value does not tell: a whole number is a u32, another an f32, a list of numbers of i32. */
export type Pairs = readonly (readonly [key: string, value: GgufValue | { readonly f32: number }])[];

const alignment = 32;
const padding = (size: number): Uint8Array => new Uint8Array((alignment - (size % alignment)) % alignment);

/** The pieces of a GGUF file (version 3), for `platform.writeFileAtomically`. */
export function* ggufChunks(pairs: Pairs, tensors: readonly GgufSource[]): Generator<Uint8Array> {
  const out = new ByteList();
  out.u32(ggufMagic);
  out.u32(3);
  out.u64(tensors.length);
  out.u64(pairs.length);
  for (const [key, value] of pairs) {
    out.text(key);
    writeValue(out, value);
  }
  let offset = 0;
  for (const { name, shape, type, bytes } of tensors) {
    out.text(name);
    out.u32(shape.length);
    for (const extent of shape.toReversed()) out.u64(extent);
    out.u32(blockTypes[type].number);
    out.u64(offset);
    offset += bytes.length + padding(bytes.length).length;
  }
  const header = out.bytes;
  yield header;
  yield padding(header.length);
  for (const { bytes } of tensors) {
    yield bytes;
    yield padding(bytes.length);
  }
}

function writeValue(out: ByteList, value: GgufValue | { readonly f32: number }): void {
  if (typeof value === 'string') {
    out.u32(valueKinds.string);
    out.text(value);
  } else if (typeof value === 'number') {
    out.u32(valueKinds.u32);
    out.u32(value);
  } else if (typeof value === 'boolean') {
    out.u32(valueKinds.bool);
    out.u8(value ? 1 : 0);
  } else if ('f32' in value) {
    out.u32(valueKinds.f32);
    out.f32(value.f32);
  } else {
    out.u32(valueKinds.array);
    out.u32(typeof value[0] === 'number' ? valueKinds.i32 : valueKinds.string);
    out.u64(value.length);
    for (const item of value) {
      if (typeof item === 'number') out.u32(item);
      else out.text(String(item));
    }
  }
}

/** Bytes, appended. */
class ByteList {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  #reserve(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
  u8(x: number): void {
    const at = this.#reserve(1);
    this.#view.setUint8(at, x);
  }
  u32(x: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, x, true);
  }
  u64(x: number): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, BigInt(x), true);
  }
  f32(x: number): void {
    const at = this.#reserve(4);
    this.#view.setFloat32(at, x, true);
  }
  text(x: string): void {
    const bytes = new TextEncoder().encode(x);
    this.u64(bytes.length);
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
  }
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}
