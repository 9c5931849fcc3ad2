import { platform } from '#platform';
import { ArgumentError } from '../util/errors.js';

type File = Awaited<ReturnType<typeof platform.openFile>>;

/** Bytes read at a time: large against the cost of a read, small against memory. */
export const pieceBytes = 1 << 20;

/**
 * Finds the lines of a file, reading it once from front to end in pieces; no line needs to fit memory.
 * @param begin where the first line begins; bytes before it count for the hash alone
 * @param headBytes how much of a line's beginning `onLine` is shown
 * @param onLine called with each line's first byte, the byte after its last (newline left out), and its beginning, which is
 *   valid during the call only
 * @returns the 32-bit FNV-1a hash of the file's bytes
 */
export async function scanLines(
  file: File,
  begin: number,
  headBytes: number,
  onLine: (start: number, end: number, head: Uint8Array) => void,
): Promise<number> {
  const head = new Uint8Array(headBytes);
  const shown = (start: number, end: number) => head.subarray(0, Math.min(headBytes, end - start));
  let hash = hashSeed;
  let start = begin;
  for (let offset = 0; offset < file.sizeBytes; offset += pieceBytes) {
    const piece = await file.read(offset, Math.min(pieceBytes, file.sizeBytes - offset));
    hash = hashBytes(piece, hash);
    for (let at = offset === 0 ? Math.min(begin, piece.length) : 0; ; ) {
      const newline = piece.indexOf(10, at);
      const end = newline < 0 ? piece.length : newline;
      const before = offset + at - start;
      if (before < headBytes) head.set(piece.subarray(at, Math.min(end, at + headBytes - before)), before);
      if (newline < 0) break;
      onLine(start, offset + newline, shown(start, offset + newline));
      at = newline + 1;
      start = offset + at;
    }
  }
  if (start < file.sizeBytes) onLine(start, file.sizeBytes, shown(start, file.sizeBytes));
  return hash >>> 0;
}

/** The number, from 1, of the line that byte `offset` begins: worked out for messages only, so that no table is kept. */
export async function lineNumberAt(file: File, offset: number): Promise<number> {
  let line = 1;
  for (let at = 0; at < offset; at += pieceBytes) {
    for (const byte of await file.read(at, Math.min(pieceBytes, offset - at))) if (byte === 10) line++;
  }
  return line;
}

/** What `hashBytes` begins with. */
export const hashSeed = 0x811c9dc5;

/** FNV-1a, 32 bits, of `bytes` after what gave `hash`. */
export function hashBytes(bytes: Uint8Array, hash: number): number {
  let value = hash;
  for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193);
  return value;
}

/** Opens a file of text or tokens for `operation`. @throws ArgumentError where it cannot be read */
export async function openData(operation: string, path: string): Promise<File> {
  try {
    return await platform.openFile(path);
  } catch (cause) {
    throw unreadable(operation, path, cause);
  }
}

/** The error of a file that `operation` cannot read. */
export function unreadable(operation: string, path: string, cause: unknown): ArgumentError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ArgumentError({ operation, argument: path, expected: 'a readable file', got: `unreadable (${reason})` }, { cause });
}
