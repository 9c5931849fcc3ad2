import { CheckpointError } from '../util/errors.js';
import type { TokenDocument } from './documents.js';
import { hashBytes, hashSeed, openData } from './line-scan.js';

/**
 * A file of token shards, little-endian:
 *
 * | byte | holds |
 * |---|---|
 * | 0 | the eight letters ELTOKENS |
 * | 8 | u32 version, 1 |
 * | 12 | u32 bytes a token: 1 (u8), 2 (u16) or 4 (i32) |
 * | 16 | u64 number of documents, n |
 * | 24 | u64 number of tokens |
 * | 32 | u32 FNV-1a of the offsets and the tokens, as they lie in the file |
 * | 36 | 28 zero bytes |
 * | 64 | n + 1 u64: where each document begins, in tokens, then the number of tokens |
 * | 64 + 8(n + 1) | the tokens |
 */
const headerBytes = 64;
const magic = 'ELTOKENS';
const version = 1;

/**
 * What a document reads at a time where less is asked for. A read costs some 70 µs however short it is: of long documents a
 * batch of 8 rows of 256 took 540 µs to read, and takes 60 with this.
 */
const readAheadBytes = 1 << 16;

/** An open shard. */
export interface Shard {
  readonly file: Awaited<ReturnType<typeof openData>>;
  readonly documents: number;
  readonly tokens: number;
  readonly checksum: number;
  open(document: number): TokenDocument;
}

/** The pieces of the file that holds `documents`. */
export function encodeShard(documents: readonly ArrayLike<number>[], vocabularySize: number): Uint8Array[] {
  const tokenBytes = vocabularySize <= 2 ** 8 ? 1 : vocabularySize <= 2 ** 16 ? 2 : 4;
  const tokens = documents.reduce((sum, { length }) => sum + length, 0);
  const header = new DataView(new ArrayBuffer(headerBytes));
  const offsets = new DataView(new ArrayBuffer(8 * (documents.length + 1)));
  const body = new DataView(new ArrayBuffer(tokens * tokenBytes));
  let at = 0;
  documents.forEach((document, i) => {
    setCount(offsets, 8 * i, at);
    for (let k = 0; k < document.length; k++) {
      const token = document[k] as number;
      if (tokenBytes === 1) body.setUint8(at + k, token);
      else if (tokenBytes === 2) body.setUint16(2 * (at + k), token, true);
      else body.setInt32(4 * (at + k), token, true);
    }
    at += document.length;
  });
  setCount(offsets, 8 * documents.length, at);
  const pieces = [header, offsets, body].map(({ buffer }) => new Uint8Array(buffer));
  new TextEncoder().encodeInto(magic, pieces[0] as Uint8Array);
  header.setUint32(8, version, true);
  header.setUint32(12, tokenBytes, true);
  setCount(header, 16, documents.length);
  setCount(header, 24, tokens);
  header.setUint32(32, pieces.slice(1).reduce((hash, piece) => hashBytes(piece, hash), hashSeed) >>> 0, true);
  return pieces;
}

/**
 * Opens a shard and reads its header and offsets.
 * @param vocabularySize tokens are below it, which is checked when they are read
 * @throws CheckpointError where it is damaged, ArgumentError where it cannot be read
 */
export async function openShard(path: string, vocabularySize: number): Promise<Shard> {
  const file = await openData('openTokenShards', path);
  try {
    const fail = (problem: string, offset: number): never => {
      throw new CheckpointError(problem, { file: path, offset });
    };
    if (file.sizeBytes < headerBytes) fail(`the file has ${String(file.sizeBytes)} bytes; a shard's header has ${String(headerBytes)}`, 0);
    const start = await file.read(0, headerBytes);
    const header = new DataView(start.buffer, start.byteOffset, headerBytes);
    if (new TextDecoder('latin1').decode(start.subarray(0, 8)) !== magic) fail(`expected the letters ${magic}`, 0);
    if (header.getUint32(8, true) !== version) fail(`version ${String(header.getUint32(8, true))}; expected ${String(version)}`, 8);
    const tokenBytes = header.getUint32(12, true);
    if (![1, 2, 4].includes(tokenBytes)) fail(`${String(tokenBytes)} bytes a token; expected 1, 2 or 4`, 12);
    const [documents, tokens] = [getCount(header, 16), getCount(header, 24)];
    const bodyStart = headerBytes + 8 * (documents + 1);
    const size = bodyStart + tokens * tokenBytes;
    if (size !== file.sizeBytes) {
      fail(`${String(documents)} documents of ${String(tokens)} tokens take ${String(size)} bytes, but the file has ${String(file.sizeBytes)}`, 16);
    }
    const table = await file.read(headerBytes, 8 * (documents + 1));
    const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
    const offsets = Float64Array.from({ length: documents + 1 }, (_, i) => getCount(view, 8 * i));
    offsets.forEach((offset, i) => {
      const [least, most] = [i === 0 ? 0 : (offsets[i - 1] ?? 0), i === 0 ? 0 : tokens];
      if (offset < least || offset > most || (i === documents && offset !== tokens)) {
        fail(`document ${String(i)} begins at token ${String(offset)}, out of order`, headerBytes + 8 * i);
      }
    });
    const open = (document: number): TokenDocument => {
      const [begin = 0, end = 0] = offsets.subarray(document);
      const readTokens = async (from: number, to: number) => {
        const at = bodyStart + (begin + from) * tokenBytes;
        const read = decodeTokens(await file.read(at, (to - from) * tokenBytes), tokenBytes);
        const wrong = read.findIndex((token) => token < 0 || token >= vocabularySize);
        if (wrong >= 0) fail(`token ${String(read[wrong])}; expected one in [0, ${String(vocabularySize)})`, at + wrong * tokenBytes);
        return read;
      };
      let [aheadFrom, ahead] = [0, new Int32Array(0) as Uint8Array | Int32Array];
      return {
        length: end - begin,
        async read(from, to) {
          if (to - from >= aheadTokens) return readTokens(from, to);
          if (from < aheadFrom || to > aheadFrom + ahead.length) {
            [aheadFrom, ahead] = [from, await readTokens(from, Math.min(end - begin, from + aheadTokens))];
          }
          return ahead.subarray(from - aheadFrom, to - aheadFrom);
        },
      };
    };
    const aheadTokens = readAheadBytes / tokenBytes;
    return { file, documents, tokens, checksum: header.getUint32(32, true), open };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function decodeTokens(bytes: Uint8Array, tokenBytes: number): Uint8Array | Int32Array {
  if (tokenBytes === 1) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const get = tokenBytes === 2 ? (i: number) => view.getUint16(2 * i, true) : (i: number) => view.getInt32(4 * i, true);
  return Int32Array.from({ length: bytes.length / tokenBytes }, (_, i) => get(i));
}

const setCount = (view: DataView, at: number, value: number): void => {
  view.setBigUint64(at, BigInt(value), true);
};

/** A count beyond what fits a float64 is not exact any more, and no file's size: it fails the checks. */
const getCount = (view: DataView, at: number): number => Number(view.getBigUint64(at, true));
