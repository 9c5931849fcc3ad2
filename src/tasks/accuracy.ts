import { ignoredTarget, type Batch, type BatchShape } from '../data/index.js';
import type { LanguageModel } from '../models/index.js';
import { scope, tensor, type HostArray } from '../tensor/index.js';
import type { Evaluation, TrainingData } from '../train/index.js';
import { freshStreams, TaskBatches, type Task } from './task.js';
import type { AbortSignalLike } from '../util/abort-signal.js';

/** How much is evaluated, and in what pieces. */
export interface AnswerOptions {
  /** B: examples at a time. */
  readonly batchSize: number;
  readonly batches: number;
  /** Positions a pass; the state carries over, so that memory does not grow with the length. Default 2048. */
  readonly chunkLength?: number;
  readonly signal?: AbortSignalLike | undefined;
}

/**
 * Loss and accuracy of a model's answers over batches of a task: at each position that is asked, the answer is the likeliest
 * token. Every example is read in chunks that carry the state.
 * @throws ArgumentError where an id is outside of the model's vocabulary; when the model is trained meanwhile
 */
export async function evaluateAnswers(
  model: LanguageModel,
  source: { next(): Batch },
  { batchSize, length, batches, chunkLength = 2048, signal }: AnswerOptions & BatchShape,
): Promise<Required<Evaluation>> {
  let [sum, tokens, correct] = [0, 0, 0];
  const { version } = model;
  for (let batch = 0; batch < batches; batch++) {
    const { inputs, targets } = source.next();
    model.checkIds('evaluateAnswers', inputs);
    const state = model.newState(batchSize);
    try {
      for (let start = 0; start < length; start += chunkLength) {
        signal?.throwIfAborted();
        model.expectUnchanged('evaluateAnswers', version);
        const count = Math.min(chunkLength, length - start);
        const asked = piece(targets, { batchSize, length }, start, count);
        const logits = scope(() => {
          const ids = tensor(model.backend, piece(inputs, { batchSize, length }, start, count), [batchSize, count], 'i32');
          // Where nothing is asked, the chunk only moves the state.
          return asked.every((target) => target === ignoredTarget) ? model.forwardLast(ids, { state }) : model.forward(ids, { state });
        });
        try {
          if (logits.rank < 3) {
            // One chunk in flight: an interruption takes effect within a chunk, and the queue stays short.
            await model.backend.synchronize();
            continue;
          }
          const values = await logits.data();
          const width = logits.columns;
          for (const [row, target] of asked.entries()) {
            if (target === ignoredTarget) continue;
            const answer = judge(values.subarray(row * width, (row + 1) * width), target);
            sum += answer.loss;
            if (answer.correct) correct++;
            tokens++;
          }
        } finally {
          logits.dispose();
        }
      }
    } finally {
      state.dispose();
    }
  }
  return { loss: sum / tokens, tokens, accuracy: correct / tokens };
}

/**
 * A task as `Trainer` takes it: batches to train on, and fresh ones to evaluate.
 * @param options.seed of the examples
 */
export function taskData(task: Task, options: AnswerOptions & { seed: number }): TrainingData & Required<Pick<TrainingData, 'evaluate'>> {
  const { batchSize, batches, seed } = options;
  return {
    source: new TaskBatches(task, { batchSize, seed }),
    continuous: false,
    fingerprint: `${task.description}, batches of ${batchSize}, seed ${seed}`,
    evaluate: (model, limitBatches) =>
      evaluateAnswers(model, new TaskBatches(task, { batchSize, seed, firstStream: freshStreams }), {
        ...options,
        length: task.length,
        batches: Math.min(batches, limitBatches),
      }),
  };
}

/** Columns [start, start + count) of [B,L]. */
function piece(values: Int32Array, { batchSize, length }: BatchShape, start: number, count: number): Int32Array {
  const part = new Int32Array(batchSize * count);
  for (let row = 0; row < batchSize; row++) {
    part.set(values.subarray(row * length + start, row * length + start + count), row * count);
  }
  return part;
}

function judge(logits: HostArray, target: number): { loss: number; correct: boolean } {
  const wanted = logits[target] ?? NaN;
  let largest = -Infinity;
  let correct = true;
  for (const [id, logit] of logits.entries()) {
    largest = Math.max(largest, logit);
    // The first of equals is the answer; a NaN makes every answer wrong.
    if (!(logit < wanted || (logit === wanted && id >= target))) correct = false;
  }
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return { loss: Math.log(sum) - (wanted - largest), correct };
}
