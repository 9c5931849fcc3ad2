import { ArgumentError } from '../util/errors.js';
import { checkBatchShape, fillRow } from './tokens.js';
import type { Batch, BatchShape, TokenArray } from './tokens.js';

/**
 * Batches that go through `tokens` once, in order: every token but the first, which has nothing before it, is a target
 * exactly once. All batches have the full shape; in the last one, inputs beyond the end are 0 and their targets
 * `ignoredTarget`, down to whole rows of them, so that a loss counts each token once.
 * @throws ArgumentError where a size is not a positive integer, or there are fewer than two tokens
 */
export function validationBatches(tokens: TokenArray, { batchSize, length }: BatchShape): Iterable<Batch> {
  const operation = 'validationBatches';
  checkBatchShape(operation, { batchSize, length });
  if (tokens.length < 2) {
    const got = `of length ${tokens.length}`;
    const hint = 'a longer text, or a larger share of it held out.';
    throw new ArgumentError({ operation, argument: 'the text', expected: 'at least 2 tokens', got, hint });
  }
  return {
    *[Symbol.iterator]() {
      for (let start = 0; start < tokens.length - 1; start += batchSize * length) {
        const batch = { inputs: new Int32Array(batchSize * length), targets: new Int32Array(batchSize * length) };
        for (let row = 0; row < batchSize; row++) fillRow(batch, row, length, tokens, start + row * length);
        yield batch;
      }
    },
  };
}
