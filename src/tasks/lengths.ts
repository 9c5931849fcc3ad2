import type { LanguageModel } from '../models/index.js';
import { evaluateAnswers } from './accuracy.js';
import { inductionHeads } from './induction-heads.js';
import { checkSize, freshStreams, TaskBatches } from './task.js';
import type { AbortSignalLike } from '../util/abort-signal.js';

/** How well induction works at one length. */
export interface LengthAccuracy {
  readonly length: number;
  readonly accuracy: number;
  readonly examples: number;
}

/**
 * Accuracy of a model on induction heads at 64, 128, … up to `longest`. Examples are read in chunks of some 16,384 ids that
 * carry the state: what the model needs does not grow with the length.
 * @param options.longest the last length, at least 64
 * @param options.examples of each length, at least 1
 * @throws ArgumentError where an option is out of its range
 */
export async function* inductionByLength(
  model: LanguageModel,
  options: { longest: number; examples: number; seed: number; signal?: AbortSignalLike },
): AsyncGenerator<LengthAccuracy> {
  const operation = 'inductionByLength';
  const longest = checkSize(operation, 'longest', options.longest, 64);
  const examples = checkSize(operation, 'examples', options.examples, 1);
  for (let length = 64; length <= longest; length *= 2) {
    const task = inductionHeads({ length, vocabularySize: model.config.vocabularySize });
    // As many rows as divide the examples, up to 16, and up to 4 million ids: an example's ids lie in memory whole.
    const batchSize = [16, 8, 4, 2].find((rows) => examples % rows === 0 && rows * length <= 2 ** 22) ?? 1;
    const source = new TaskBatches(task, { batchSize, seed: options.seed, firstStream: freshStreams });
    const { accuracy } = await evaluateAnswers(model, source, {
      batchSize,
      length,
      batches: examples / batchSize,
      chunkLength: 16_384 / batchSize,
      signal: options.signal,
    });
    yield { length, accuracy, examples };
  }
}
