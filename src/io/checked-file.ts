/** Opening and reading files so that every failure is a CheckpointError that names the file and the place. */
import { platform } from '#platform';
import type { RandomAccessFile } from '../platform/platform.js';
import { startChecksum } from '../util/checksum.js';
import { CheckpointError, type CheckpointLocation } from '../util/errors.js';
import { describeForeignContent, foreignContentBytes } from '../util/file-content.js';
import type { StoredChecksum } from './checkpoint-entry.js';
import { describeMissing } from './missing-path.js';

/**
 * Opens a file for reading in pieces.
 * @throws CheckpointError when it cannot be opened
 */
export async function openForReading(path: string): Promise<RandomAccessFile> {
  try {
    return await platform.openFile(path);
  } catch (error) {
    const missing = (await platform.pathKind(path)) === undefined;
    const problem = missing ? await describeMissing(path) : `cannot be opened: ${messageOf(error)}`;
    throw new CheckpointError(problem, { file: path }, { cause: error });
  }
}

/**
 * Throws where a file plainly is something else than its name says: a pointer of Git LFS, a web page, nothing at all.
 * @throws CheckpointError that says what it is
 */
export async function refuseForeignContent(file: RandomAccessFile): Promise<void> {
  const start = await readRange(file, 0, Math.min(foreignContentBytes, file.sizeBytes), 'the start of the file');
  const foreign = describeForeignContent(start, file.sizeBytes);
  if (foreign !== undefined) throw new CheckpointError(foreign, { file: file.name });
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
      `the file ends inside ${what}; expected ${sizeBytes} bytes from here, got a file of ` +
        `${file.sizeBytes} bytes. Hint: it may be an incomplete download.`,
      location,
    );
  }
  try {
    return await file.read(offset, sizeBytes);
  } catch (error) {
    throw new CheckpointError(`${what} cannot be read: ${messageOf(error)}`, location, { cause: error });
  }
}

/** Bytes read at a time where a whole part of a file is only hashed. */
const hashedAtOnce = 1 << 22;

/**
 * Throws unless bytes have the checksum that the file says they have.
 * @param key the tensor they are of, for the message
 * @param bytes the bytes, where they have been read; else they are read, a piece at a time
 * @throws CheckpointError
 */
export async function verifyChecksum(file: RandomAccessFile, stored: StoredChecksum, key?: string, bytes?: Uint8Array): Promise<void> {
  const running = await startChecksum(stored.algorithm);
  if (bytes !== undefined) running.update(bytes);
  else {
    for (let done = 0; done < stored.sizeBytes; done += hashedAtOnce) {
      const size = Math.min(hashedAtOnce, stored.sizeBytes - done);
      running.update(await readRange(file, stored.offset + done, size, stored.of, key));
    }
  }
  expectChecksum(running.digest(), stored, { file: file.name, offset: stored.offset, ...(key === undefined ? {} : { key }) });
}

/** @throws CheckpointError unless `value` is the stored one */
export function expectChecksum(value: string, { value: expected, of, algorithm }: Pick<StoredChecksum, 'value' | 'of' | 'algorithm'>, location: CheckpointLocation): void {
  if (value === expected) return;
  const kept = algorithm === 'crc32' ? '' : ', or another program changed it and kept the old checksums (verify: false loads it as it is)';
  throw new CheckpointError(
    `${of} is damaged: its checksum is ${value}; expected ${expected}, which was stored with it. Hint: copy or download the file again; ` +
      `a disk or a transfer changed it${kept}.`,
    location,
  );
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
