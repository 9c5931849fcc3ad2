import type { ChecksumAlgorithm } from '../util/checksum.js';
import type { StoredDType } from './stored-dtype.js';

/** One tensor of a checkpoint: what it is and where its bytes lie, little-endian. */
export interface CheckpointEntry {
  /** The tensor's name in the checkpoint. */
  readonly key: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Path or URL of the file that holds the bytes. */
  readonly file: string;
  /** Position of the first element in that file, in bytes from its start; fit for memory mapping. */
  readonly offset: number;
  /** Bytes of the tensor row by row, as `Checkpoint.read` gives them. */
  readonly sizeBytes: number;
  /** Elements from one index to the next along each axis, where the file does not hold the tensor row by row: a transposed view. */
  readonly strides?: readonly number[];
  /** How the bytes of `dtype` come out of the file's, where it holds others: blocks of quantized numbers, or rows in another order. */
  readonly stored?: { readonly sizeBytes: number; decode(bytes: Uint8Array): Uint8Array };
  /** What the file says of its bytes. */
  readonly checksum?: StoredChecksum;
}

/** A checksum that a file holds of a part of itself: of a tensor, or of what several tensors lie in. */
export interface StoredChecksum {
  readonly algorithm: ChecksumAlgorithm;
  /** In hexadecimal, lower case. */
  readonly value: string;
  readonly offset: number;
  readonly sizeBytes: number;
  /** What the bytes are, for messages: 'the tensor', or the name of a zip archive's entry. */
  readonly of: string;
}
