import { checksumOf } from '../util/checksum.js';
import { CheckpointError } from '../util/errors.js';
import type { TokenDocument } from './documents.js';
import { openData } from './line-scan.js';

/**
 * A file of token shards, little-endian:
 *
 * | byte | holds |
 * |---|---|
 * | 0 | the eight letters ELTOKENS |
 * | 8 | u32 version, 2 |
 * | 12 | u32 bytes a token: 1 (u8), 2 (u16) or 4 (i32) |
 * | 16 | u64 number of documents, n |
 * | 24 | u64 number of tokens |
 * | 32 | u32 CRC-32 of the tables: the offsets and the pieces' checksums, as they lie in the file |
 * | 36 | u32 CRC-32 of the 36 bytes before |
 * | 40 | 24 zero bytes |
 * | 64 | n + 1 u64: where each document begins, in tokens, then the number of tokens |
 * | 64 + 8(n + 1) | a u32 for each piece, its CRC-32: of each document in turn the pieces of 64 KiB that it is read in, the last one shorter |
 * | after that | the tokens |
 *
 * Version 1 has no checksums of pieces, and at 32 the FNV-1a of offsets and tokens: it is read without being verified.
 */
const headerBytes = 64;
const magic = 'ELTOKENS';
const version = 2;

/**
 * What a document is read and verified in, at most. A read costs some 70 µs however short it is: of long documents a batch of 8 rows
 * of 256 took 540 µs to read, and takes 60 with this.
 */
const pieceBytes = 1 << 16;

/** Pieces of a document of so many bytes. */
const piecesOf = (bytes: number): number => Math.ceil(bytes / pieceBytes);

/** An open shard. */
export interface Shard {
  readonly file: Awaited<ReturnType<typeof openData>>;
  readonly documents: number;
  readonly tokens: number;
  readonly checksum: number;
  open(document: number): TokenDocument;
}

/** The pieces of the file that holds `documents`. */
export async function encodeShard(documents: readonly ArrayLike<number>[], vocabularySize: number): Promise<Uint8Array[]> {
  const tokenBytes = vocabularySize <= 2 ** 8 ? 1 : vocabularySize <= 2 ** 16 ? 2 : 4;
  const tokens = documents.reduce((sum, { length }) => sum + length, 0);
  const header = new DataView(new ArrayBuffer(headerBytes));
  const offsets = new DataView(new ArrayBuffer(8 * (documents.length + 1)));
  const body = new DataView(new ArrayBuffer(tokens * tokenBytes));
  const checksums: number[] = [];
  let at = 0;
  for (const [i, document] of documents.entries()) {
    setCount(offsets, 8 * i, at);
    for (let k = 0; k < document.length; k++) {
      const token = document[k] as number;
      if (tokenBytes === 1) body.setUint8(at + k, token);
      else if (tokenBytes === 2) body.setUint16(2 * (at + k), token, true);
      else body.setInt32(4 * (at + k), token, true);
    }
    const bytes = new Uint8Array(body.buffer, at * tokenBytes, document.length * tokenBytes);
    for (let from = 0; from < bytes.length; from += pieceBytes) checksums.push(await crc32(bytes.subarray(from, from + pieceBytes)));
    at += document.length;
  }
  setCount(offsets, 8 * documents.length, at);
  const table = new DataView(new ArrayBuffer(4 * checksums.length));
  for (const [i, checksum] of checksums.entries()) table.setUint32(4 * i, checksum, true);
  const pieces = [header, offsets, table, body].map(({ buffer }) => new Uint8Array(buffer));
  const [headerPiece = new Uint8Array(), ...rest] = pieces;
  new TextEncoder().encodeInto(magic, headerPiece);
  header.setUint32(8, version, true);
  header.setUint32(12, tokenBytes, true);
  setCount(header, 16, documents.length);
  setCount(header, 24, tokens);
  header.setUint32(32, await crc32(...rest.slice(0, 2)), true);
  header.setUint32(36, await crc32(headerPiece.subarray(0, 36)), true);
  return pieces;
}

/**
 * Opens a shard and reads its header and tables.
 * @param vocabularySize tokens are below it, which is checked when they are read
 * @throws CheckpointError where it is damaged, ArgumentError where it cannot be read
 */
export async function openShard(path: string, vocabularySize: number): Promise<Shard> {
  const file = await openData('openTokenShards', path);
  try {
    const fail = (problem: string, offset: number): never => {
      throw new CheckpointError(problem, { file: path, offset });
    };
    const damaged = (what: string, offset: number): never =>
      fail(`${what} damaged: the checksum differs from the one stored with it. Hint: copy the file again, or tokenize the text again.`, offset);
    if (file.sizeBytes < headerBytes) fail(`the file has ${file.sizeBytes} bytes; a shard's header has ${headerBytes}`, 0);
    const start = await file.read(0, headerBytes);
    const header = new DataView(start.buffer, start.byteOffset, headerBytes);
    if (new TextDecoder('latin1').decode(start.subarray(0, 8)) !== magic) fail(`expected the letters ${magic}`, 0);
    const stored = header.getUint32(8, true);
    if (stored !== 1 && stored !== version) fail(`version ${stored}; expected 1 or ${version}`, 8);
    const verified = stored === version;
    if (verified && (await crc32(start.subarray(0, 36))) !== header.getUint32(36, true)) damaged('the header is', 0);
    const tokenBytes = header.getUint32(12, true);
    if (![1, 2, 4].includes(tokenBytes)) fail(`${tokenBytes} bytes a token; expected 1, 2 or 4`, 12);
    const [documents, tokens] = [getCount(header, 16), getCount(header, 24)];
    const offsetsEnd = headerBytes + 8 * (documents + 1);
    const least = offsetsEnd + tokens * tokenBytes;
    if (verified ? least > file.sizeBytes : least !== file.sizeBytes) {
      fail(`${documents} documents of ${tokens} tokens take ${least} bytes, but the file has ${file.sizeBytes}`, 16);
    }
    const offsetBytes = await file.read(headerBytes, 8 * (documents + 1));
    const view = new DataView(offsetBytes.buffer, offsetBytes.byteOffset, offsetBytes.byteLength);
    const offsets = Float64Array.from({ length: documents + 1 }, (_, i) => getCount(view, 8 * i));
    offsets.forEach((offset, i) => {
      const [lowest, highest] = [i === 0 ? 0 : (offsets[i - 1] ?? 0), i === 0 ? 0 : tokens];
      if (offset < lowest || offset > highest || (i === documents && offset !== tokens)) {
        fail(`document ${i} begins at token ${offset}, out of order`, headerBytes + 8 * i);
      }
    });
    /** Of each document its first piece, counted through the shard. */
    const firstPieces = new Float64Array(documents + 1);
    for (let i = 0; i < documents; i++) firstPieces[i + 1] = (firstPieces[i] ?? 0) + piecesOf(((offsets[i + 1] ?? 0) - (offsets[i] ?? 0)) * tokenBytes);
    const tableBytes = verified ? 4 * (firstPieces[documents] ?? 0) : 0;
    if (least + tableBytes !== file.sizeBytes) {
      fail(`${documents} documents of ${tokens} tokens take ${least + tableBytes} bytes, but the file has ${file.sizeBytes}`, 16);
    }
    const tableStart = await file.read(offsetsEnd, tableBytes);
    if (verified && (await crc32(offsetBytes, tableStart)) !== header.getUint32(32, true)) damaged('the tables are', headerBytes);
    const table = new DataView(tableStart.buffer, tableStart.byteOffset, tableBytes);
    const bodyStart = offsetsEnd + tableBytes;
    const pieceTokens = pieceBytes / tokenBytes;

    const open = (document: number): TokenDocument => {
      const [begin = 0, after = 0] = offsets.subarray(document);
      const length = after - begin;
      const readPiece = async (piece: number): Promise<Uint8Array | Int32Array> => {
        const at = bodyStart + begin * tokenBytes + piece * pieceBytes;
        const bytes = await file.read(at, Math.min(pieceBytes, length * tokenBytes - piece * pieceBytes));
        const place = 4 * ((firstPieces[document] ?? 0) + piece);
        if (verified && (await crc32(bytes)) !== table.getUint32(place, true)) damaged(`tokens of document ${document} are`, at);
        const read = decodeTokens(bytes, tokenBytes);
        const wrong = read.findIndex((token) => token < 0 || token >= vocabularySize);
        if (wrong >= 0) fail(`token ${String(read[wrong])}; expected one in [0, ${vocabularySize})`, at + wrong * tokenBytes);
        return read;
      };
      // The last piece that was read: rows go on where they were.
      let [held, values] = [-1, new Int32Array(0) as Uint8Array | Int32Array];
      return {
        length,
        async read(from, to) {
          const parts: (Uint8Array | Int32Array)[] = [];
          const end = Math.min(to, length);
          for (let at = from; at < end; ) {
            const piece = Math.floor(at / pieceTokens);
            if (piece !== held) [held, values] = [piece, await readPiece(piece)];
            const [first, last] = [at - piece * pieceTokens, Math.min(end - piece * pieceTokens, values.length)];
            parts.push(values.subarray(first, last));
            at += last - first;
          }
          return parts.length === 1 ? (parts[0] as Uint8Array | Int32Array) : joined(parts);
        },
      };
    };
    return { file, documents, tokens, checksum: header.getUint32(32, true), open };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function joined(parts: readonly (Uint8Array | Int32Array)[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const crc32 = async (...pieces: Uint8Array[]): Promise<number> => parseInt(await checksumOf('crc32', pieces), 16);

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
