import { ArgumentError } from '../util/errors.js';

/** Token ids in memory, in the smallest type that holds the vocabulary. */
export type TokenArray = Uint8Array | Uint16Array | Int32Array;

/** A text for language modelling: the part to train on and the part that is held out. */
export interface TokenDataset<T extends TokenArray = TokenArray> {
  training: T;
  validation: T;
}

/** The tokens that follow each other in `batchSize` windows; a loss averages over the targets that are not ignored. */
export interface Batch {
  /** [B, L], row by row. */
  inputs: Int32Array;
  /** [B, L]: the token after each input, or `ignoredTarget` where there is none. */
  targets: Int32Array;
  /**
   * [B, L], nonzero where a document starts. A batch that has it is packed: row b goes on where row b of the batch before
   * it ended, so the model's state is carried from one to the next.
   */
  starts?: Int32Array;
}

/** The shape of batches. */
export interface BatchShape {
  /** B, the number of windows. */
  batchSize: number;
  /** L, the number of targets of a window. */
  length: number;
}

/** The target of a position that the loss ignores. */
export const ignoredTarget = -1;

/**
 * Holds out the last `validationShare` of `tokens`; both parts are views, nothing is copied.
 * @param validationShare in [0, 1); the default holds out a tenth
 * @throws ArgumentError where the share is out of its range
 */
export function splitText<T extends TokenArray>(tokens: T, validationShare = 0.1): TokenDataset<T> {
  if (!(validationShare >= 0 && validationShare < 1)) {
    const [argument, got] = ['validationShare', String(validationShare)];
    throw new ArgumentError({ operation: 'splitText', argument, expected: 'a number in [0, 1)', got });
  }
  const end = tokens.length - Math.round(tokens.length * validationShare);
  return { training: tokens.subarray(0, end) as T, validation: tokens.subarray(end) as T };
}

/** @throws ArgumentError in the name of `operation` where a size is not a positive integer */
export function checkBatchShape(operation: string, shape: BatchShape): void {
  for (const argument of ['batchSize', 'length'] as const) {
    const value = shape[argument];
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ArgumentError({ operation, argument, expected: 'an integer ≥ 1', got: String(value) });
  }
}

/**
 * Writes the window of tokens [start, start + L] as row `row` of `batch`: inputs are all but the last, targets all but the
 * first. What lies beyond the end of the tokens gets input 0 and `ignoredTarget`.
 */
export function fillRow(batch: Batch, row: number, length: number, tokens: TokenArray, start: number): void {
  const at = row * length;
  const count = Math.max(0, Math.min(length, tokens.length - 1 - start));
  batch.inputs.set(tokens.subarray(start, start + count), at);
  batch.targets.set(tokens.subarray(start + 1, start + 1 + count), at);
  batch.targets.fill(ignoredTarget, at + count, at + length);
}
