/**
 * The GGUF format, reading: a header, pairs of metadata, the list of tensors, then their data, all little-endian.
 * Source: ggml's `docs/gguf.md`.
 */
import type { RandomAccessFile } from '../../platform/platform.js';
import { CheckpointError } from '../../util/errors.js';
import { readRange, readUint64, refuseForeignContent, viewOf } from '../checked-file.js';
import { safeProduct } from '../validate.js';
import { blockTypes, typeNamed, type BlockType } from './blocks.js';

/** A value of the metadata. 64-bit integers are numbers; above 2^53 they are inexact. */
export type GgufValue = number | boolean | string | readonly (number | boolean | string)[];

/** A tensor as the file lists it. */
export interface GgufTensor {
  readonly name: string;
  /** Row-major: the file's list of extents, which begins with the row's length, turned around. */
  readonly shape: readonly number[];
  readonly type: BlockType;
  /** In bytes from the file's start. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** What a file says before its tensors' data. */
export interface GgufHeader {
  readonly file: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** The first four bytes as a number. */
export const ggufMagic = 0x46554747;
/** Numbers of the kinds of metadata values. */
export const valueKinds = { u8: 0, i8: 1, u16: 2, i16: 3, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9, u64: 10, i64: 11, f64: 12 } as const;

/** Bytes that are read first: more than the header of most models. */
const firstRead = 1 << 23;

/** The bytes at hand end before the header does. */
class NeedsMore extends Error {
  constructor(readonly position: number) {
    super();
  }
}

/**
 * Reads all but the tensors' data.
 * @throws CheckpointError when the file is no GGUF, is cut short, or says what cannot be
 */
export async function readGgufHeader(file: RandomAccessFile): Promise<GgufHeader> {
  let size = Math.min(firstRead, file.sizeBytes);
  for (;;) {
    const bytes = await readRange(file, 0, size, 'the header');
    if (size < 24 || viewOf(bytes).getUint32(0, true) !== ggufMagic) {
      if (size < 4 || viewOf(bytes).getUint32(0, true) !== ggufMagic) await refuseForeignContent(file);
      throw new CheckpointError("is no GGUF file; expected one that begins with 'GGUF' and a header of 24 bytes", { file: file.name, offset: 0 });
    }
    try {
      return new HeaderReader(bytes, file).read();
    } catch (error) {
      if (!(error instanceof NeedsMore)) throw error;
      // The header is parsed again, from more bytes; a length beyond the file is no reason to read it all.
      if (error.position > file.sizeBytes) await readRange(file, size, error.position - size, 'the header');
      size = Math.min(file.sizeBytes, Math.max(4 * size, error.position));
    }
  }
}

/** Parses a header out of the beginning of a file. */
class HeaderReader {
  readonly #view: DataView;
  readonly #text = new TextDecoder('utf-8');
  #at = 4;

  constructor(
    readonly bytes: Uint8Array,
    readonly file: RandomAccessFile,
  ) {
    this.#view = viewOf(bytes);
  }

  read(): GgufHeader {
    const version = this.#u32();
    if (version !== 2 && version !== 3) throw this.#problem(`is GGUF of version ${version}; expected 2 or 3, little-endian`, 4);
    const [tensorCount, pairCount] = [this.#u64(), this.#u64()];
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < pairCount; i++) {
      const start = this.#at;
      const key = this.#string();
      if (metadata.has(key)) throw this.#problem('is there twice; expected each key once', start, key);
      metadata.set(key, this.#value(this.#u32(), key));
    }
    const alignment = metadata.get('general.alignment') ?? 32;
    if (typeof alignment !== 'number' || !Number.isInteger(alignment) || alignment < 8 || alignment % 8 !== 0) {
      throw this.#problem(`is ${String(alignment)}; expected a multiple of 8`, 0, 'general.alignment');
    }
    const listed: GgufTensor[] = [];
    for (let i = 0; i < tensorCount; i++) listed.push(this.#tensor(alignment));
    const start = Math.ceil(this.#at / alignment) * alignment;
    const tensors = new Map<string, GgufTensor>();
    for (const tensor of listed) {
      const { name, sizeBytes } = tensor;
      const offset = start + tensor.offset;
      if (tensors.has(name)) throw this.#problem('is there twice; expected each tensor once', offset, name);
      if (offset + sizeBytes > this.file.sizeBytes) {
        const problem = `the file ends inside the tensor; expected ${sizeBytes} bytes from here, got a file of ${this.file.sizeBytes} bytes. Hint: it may be an incomplete download.`;
        throw this.#problem(problem, offset, name);
      }
      tensors.set(name, { ...tensor, offset });
    }
    return { file: this.file.name, metadata, tensors };
  }

  #tensor(alignment: number): GgufTensor {
    const start = this.#at;
    const name = this.#string();
    const axes = this.#u32();
    if (axes < 1 || axes > 4) throw this.#problem(`has ${axes} axes; expected 1 to 4`, start, name);
    const shape = Array.from({ length: axes }, () => this.#u64()).reverse();
    const number = this.#u32();
    const type = typeNamed(number);
    if (typeof type === 'string') {
      throw this.#problem(`is of type ${type}; expected one of ${Object.values(blockTypes).map((one) => one.name).join(', ')}. Hint: take the file in one of these types.`, start, name);
    }
    const offset = this.#u64();
    const size = safeProduct(shape);
    if (size === undefined || size === 0 || (shape.at(-1) ?? 0) % type.values !== 0) {
      throw this.#problem(`has shape [${shape.join(', ')}]; expected extents of at least 1, and rows of a multiple of ${type.values} for ${type.name}`, start, name);
    }
    if (offset % alignment !== 0) throw this.#problem(`begins ${offset} bytes after the header; expected a multiple of ${alignment}`, start, name);
    return { name, shape, type, offset, sizeBytes: (size / type.values) * type.bytes };
  }

  #value(kind: number, key: string): GgufValue {
    if (kind !== valueKinds.array) return this.#scalar(kind, key);
    const [itemKind, count] = [this.#u32(), this.#u64()];
    if (itemKind === valueKinds.array) throw this.#problem('is a list of lists; expected a list of numbers or texts', this.#at, key);
    const items: (number | boolean | string)[] = [];
    for (let i = 0; i < count; i++) items.push(this.#scalar(itemKind, key));
    return items;
  }

  #scalar(kind: number, key: string): number | boolean | string {
    const view = this.#view;
    switch (kind) {
      case valueKinds.u8:
        return view.getUint8(this.#take(1));
      case valueKinds.i8:
        return view.getInt8(this.#take(1));
      case valueKinds.u16:
        return view.getUint16(this.#take(2), true);
      case valueKinds.i16:
        return view.getInt16(this.#take(2), true);
      case valueKinds.u32:
        return this.#u32();
      case valueKinds.i32:
        return view.getInt32(this.#take(4), true);
      case valueKinds.f32:
        return view.getFloat32(this.#take(4), true);
      case valueKinds.bool:
        return view.getUint8(this.#take(1)) !== 0;
      case valueKinds.string:
        return this.#string();
      case valueKinds.u64:
        return this.#u64();
      case valueKinds.i64:
        return Number(view.getBigInt64(this.#take(8), true));
      case valueKinds.f64:
        return view.getFloat64(this.#take(8), true);
      default:
        throw this.#problem(`is of kind ${kind}, which GGUF does not have; expected 0 to 12`, this.#at - 4, key);
    }
  }

  #take(size: number): number {
    const at = this.#at;
    if (at + size > this.bytes.length) throw new NeedsMore(at + size);
    this.#at += size;
    return at;
  }
  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  #u64(): number {
    return readUint64(this.#view, this.#take(8));
  }
  #string(): string {
    const size = this.#u64();
    const at = this.#take(size);
    return this.#text.decode(this.bytes.subarray(at, at + size));
  }

  #problem(problem: string, offset: number, key?: string): CheckpointError {
    return new CheckpointError(problem, { file: this.file.name, offset, ...(key === undefined ? {} : { key }) });
  }
}
