/** Opening and reading files so that every failure is a CheckpointError that names the file and the place. */
import { platform } from '#platform';
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';

/**
 * Opens a file for reading in pieces.
 * @throws CheckpointError when it cannot be opened
 */
export async function openForReading(path: string): Promise<RandomAccessFile> {
  try {
    return await platform.openFile(path);
  } catch (error) {
    throw new CheckpointError(`cannot be opened: ${messageOf(error)}`, { file: path }, { cause: error });
  }
}

/**
 * Reads bytes [offset, offset + sizeBytes).
 * @param what what the bytes are, for the message
 * @throws CheckpointError when the file is too short or cannot be read
 */
export async function readRange(
  file: RandomAccessFile,
  offset: number,
  sizeBytes: number,
  what: string,
  key?: string,
): Promise<Uint8Array> {
  const location = { file: file.name, offset, ...(key === undefined ? {} : { key }) };
  // Checked before reading: a hostile size must not be allocated.
  if (offset + sizeBytes > file.sizeBytes) {
    throw new CheckpointError(
      `the file ends inside ${what}; expected ${String(sizeBytes)} bytes from here, got a file of ` +
        `${String(file.sizeBytes)} bytes. Hint: it may be an incomplete download.`,
      location,
    );
  }
  try {
    return await file.read(offset, sizeBytes);
  } catch (error) {
    throw new CheckpointError(`${what} cannot be read: ${messageOf(error)}`, location, { cause: error });
  }
}

/** A view for reading numbers out of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A 64-bit unsigned integer as a number. Above 2⁵³ it is inexact but still larger than any file, so comparing it
 * with a file's size rejects it.
 */
export function readUint64(view: DataView, position: number): number {
  return view.getUint32(position + 4, true) * 2 ** 32 + view.getUint32(position, true);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
