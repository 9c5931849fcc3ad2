import type { StoredDType } from './stored-dtype.js';

/** One tensor of a checkpoint: what it is and where its bytes lie, row by row, little-endian. */
export interface CheckpointEntry {
  /** The tensor's name in the checkpoint. */
  readonly key: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Path or URL of the file that holds the bytes. */
  readonly file: string;
  /** Position of the first byte in that file, in bytes from its start; fit for memory mapping. */
  readonly offset: number;
  readonly sizeBytes: number;
}
