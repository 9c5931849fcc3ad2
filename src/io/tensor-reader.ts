import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import { readRange, verifyChecksum } from './checked-file.js';
import type { CheckpointEntry, StoredChecksum } from './checkpoint-entry.js';
import { storedItemSizeBytes } from './stored-dtype.js';
import { spannedItems, toRowByRow } from './strided.js';

/** Reads tensors out of open files, and compares what it reads with the checksums that the files hold. */
export class TensorReader {
  /** Of parts of files found sound, where and in what file: several tensors may lie in one. */
  readonly #verified = new Set<StoredChecksum>();

  /** @param verify true: a tensor without a checksum is an error; false: nothing is compared; undefined: what has one is */
  constructor(readonly verify: boolean | undefined) {}

  /**
   * The bytes of a tensor, row by row.
   * @throws CheckpointError when the file cannot be read, or is damaged there
   */
  async read(file: RandomAccessFile, entry: CheckpointEntry): Promise<Uint8Array> {
    const { key, dtype, shape, strides, offset, stored, sizeBytes: own } = entry;
    const sizeBytes = stored?.sizeBytes ?? own;
    const spanned = strides === undefined ? sizeBytes : spannedItems(shape, strides) * storedItemSizeBytes(dtype);
    const bytes = await readRange(file, offset, spanned, 'the tensor', key);
    const { checksum } = entry;
    const whole = checksum?.offset === offset && checksum.sizeBytes === spanned;
    await this.expectSound(file, entry, whole ? bytes : undefined);
    if (stored !== undefined) return stored.decode(bytes);
    return strides === undefined ? bytes : toRowByRow(bytes, dtype, shape, strides);
  }

  /**
   * Throws where a tensor is not what its checksum says.
   * @param bytes what the checksum is of, where it has been read
   * @throws CheckpointError
   */
  async expectSound(file: RandomAccessFile, { key, offset, checksum }: CheckpointEntry, bytes?: Uint8Array): Promise<void> {
    if (this.verify === false) return;
    if (checksum === undefined) {
      if (this.verify !== true) return;
      throw new CheckpointError(
        'the file has no checksum of this tensor to verify it with; expected one, as elapid’s own files and those of torch.save have. Hint: load it without verify.',
        { file: file.name, key, offset },
      );
    }
    if (this.#verified.has(checksum)) return;
    await verifyChecksum(file, checksum, key, bytes);
    this.#verified.add(checksum);
  }
}
