import { ignoredTarget, type Batch, type BatchShape } from '../data/index.js';
import type { LanguageModel, State } from '../models/index.js';
import { expectFiniteWeights } from '../nn/finite.js';
import { scope, tensor } from '../tensor/index.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError } from '../util/errors.js';
import type { Objective } from './objective.js';

/** Loss of a model on a text. */
export interface Evaluation {
  /** Mean cross-entropy, nats a token. */
  readonly loss: number;
  /** Tokens predicted. */
  readonly tokens: number;
  /** Where it was asked for: the share of targets that the model thought likeliest. */
  readonly accuracy?: number;
}

/** e^loss: the perplexity a token. */
export function perplexity({ loss }: Evaluation): number {
  return Math.exp(loss);
}

/** Bits a byte of a text of `bytes` bytes. */
export function bitsPerByte({ loss, tokens }: Evaluation, bytes: number): number {
  return (loss * tokens) / Math.LN2 / bytes;
}

/** e to the loss of a word, for a text of `words` words: comparable between tokenizers, as bits a byte. Source: MambaByte, section 2. */
export function wordPerplexity({ loss, tokens }: Evaluation, words: number): number {
  return Math.exp((loss * tokens) / words);
}

/** How an evaluation is watched and interrupted. */
export interface EvaluationConduct {
  /** Called after each pass with the tokens predicted so far and their mean loss. */
  readonly onProgress?: (predicted: number, loss: number) => void;
  readonly signal?: AbortSignalLike;
}

/**
 * Mean loss over batches: each row on its own (from a zero state), or, where batches are packed and the model's memory has a fixed
 * size, going on from the batch before.
 * @throws ArgumentError when there is nothing to predict, or the loss is not finite; when the model is trained meanwhile
 * @throws DisposedError when model or backend are disposed, meanwhile too
 */
export async function evaluate(
  model: LanguageModel,
  batches: Iterable<Batch> | AsyncIterable<Batch>,
  { batchSize, length }: BatchShape,
  { onProgress, signal }: EvaluationConduct = {},
): Promise<Evaluation> {
  let sum = 0;
  let tokens = 0;
  let state: State | undefined;
  let version: number | undefined;
  try {
    for await (const { inputs, targets, starts } of batches) {
      signal?.throwIfAborted();
      version ??= model.version;
      model.expectUnchanged('evaluate', version);
      const put = (ids: Int32Array) => tensor(model.backend, ids, [batchSize, length], 'i32');
      if (starts !== undefined && !model.remembersPositions) state ??= model.newState(batchSize);
      const losses = scope(() =>
        model.tokenLosses(put(inputs), put(targets), {
          ...(starts === undefined ? {} : { sequenceStarts: put(starts) }),
          ...(state === undefined ? {} : { state }),
        }),
      );
      try {
        for (const loss of await losses.data()) sum += loss;
      } finally {
        losses.dispose();
      }
      if (!Number.isFinite(sum)) await explainLoss(model, sum);
      tokens += countTargets(targets);
      onProgress?.(tokens, sum / tokens);
    }
  } finally {
    state?.dispose();
  }
  return mean(sum, tokens);
}

/**
 * Mean loss of an objective over batches, each from no state, or, where batches are packed, going on from the batch before.
 * @throws ArgumentError when there is nothing to predict
 */
export async function evaluateObjective(objective: Objective, batches: Iterable<Batch> | AsyncIterable<Batch>): Promise<Evaluation> {
  let [sum, targets] = [0, 0];
  let state: State | null = null;
  try {
    for await (const batch of batches) {
      if (batch.starts !== undefined) state ??= objective.newState?.() ?? null;
      const loss = scope(() => objective.loss(batch, state));
      const count = objective.countTargets(batch);
      try {
        sum += (await loss.item()) * count;
      } finally {
        loss.dispose();
      }
      targets += count;
    }
  } finally {
    state?.dispose();
  }
  return mean(sum, targets);
}

/** How many targets a loss counts. */
export function countTargets(targets: Int32Array): number {
  let count = 0;
  for (const target of targets) if (target !== ignoredTarget) count++;
  return count;
}

/**
 * Loss of a text as one sequence: every token is predicted from all before it, in chunks that carry the state. Where the model has a
 * context length, memory would grow beyond what it was trained for: the text is then read in windows of that length which overlap by
 * half, and a token counts in the window that has more before it. Memory does not grow with the text either way.
 * @throws ArgumentError when the text has fewer than two tokens, or the loss is not finite; when the model is trained meanwhile
 * @throws DisposedError when model or backend are disposed, meanwhile too
 */
export async function evaluateSequence(
  model: LanguageModel,
  tokens: ArrayLike<number>,
  options: EvaluationConduct & SequenceOptions = {},
): Promise<Evaluation> {
  let sum = 0;
  let predicted = 0;
  for await (const losses of sequenceLosses(model, tokens, options)) {
    for (const loss of losses) sum += loss;
    predicted += losses.length;
    if (predicted > 0) options.onProgress?.(predicted, sum / predicted);
  }
  return mean(sum, predicted);
}

/** How a sequence is gone through. */
export interface SequenceOptions {
  /** Tokens a pass; default 1024. */
  readonly chunkLength?: number;
  readonly signal?: AbortSignalLike;
}

/**
 * The losses of a text as one sequence, nats, in the order of its tokens, some at a time: the first is that of the second token. See
 * `evaluateSequence`, which throws for a text of fewer than two tokens besides; here it has no losses.
 */
export async function* sequenceLosses(
  model: LanguageModel,
  tokens: ArrayLike<number>,
  { chunkLength = 1024, signal }: SequenceOptions = {},
): AsyncGenerator<Float32Array, void, void> {
  model.checkIds('evaluate', tokens);
  const { length } = tokens;
  const { version } = model;
  for (const { from, counted, to } of windows(length - 1, model.config.contextLength)) {
    const state = model.newState(1);
    try {
      for (let start = from; start < to; start += chunkLength) {
        signal?.throwIfAborted();
        model.expectUnchanged('evaluate', version);
        const end = Math.min(start + chunkLength, to);
        const losses = await chunkLosses(model, tokens, [start, end], state);
        const strange = losses.find((loss) => !Number.isFinite(loss));
        if (strange !== undefined) await explainLoss(model, strange);
        yield losses.subarray(Math.max(0, counted - start));
      }
    } finally {
      state.dispose();
    }
  }
}

/** A part of a text that is read from no state: positions [from, to), of which those from `counted` on are scored. */
interface Window {
  readonly from: number;
  readonly counted: number;
  readonly to: number;
}

/** The windows of a text of `length` predictions. @param context positions a window, none: one window for all */
function* windows(length: number, context: number | undefined): Generator<Window> {
  if (length < 1) return;
  if (context === undefined || length <= context) {
    yield { from: 0, counted: 0, to: length };
    return;
  }
  const step = Math.max(1, Math.floor(context / 2));
  for (let from = 0, counted = 0; counted < length; from += step) {
    const to = Math.min(from + context, length);
    yield { from, counted, to };
    counted = to;
  }
}

/** Losses of the predictions of positions [start, end), which the state has come to. */
async function chunkLosses(model: LanguageModel, tokens: ArrayLike<number>, [start, end]: readonly [number, number], state: State): Promise<Float32Array> {
  // A copy of a chunk, not of the text.
  const part = (from: number) => tensor(model.backend, Int32Array.from({ length: end - start }, (_, i) => tokens[from + i] as number), [1, end - start], 'i32');
  const losses = scope(() => model.tokenLosses(part(start), part(start + 1), { state }));
  try {
    return await losses.data();
  } finally {
    losses.dispose();
  }
}

/**
 * Throws for a loss that is not finite, and can only stay so.
 * @throws ArgumentError naming the weight at fault, if one is
 */
export async function explainLoss(model: LanguageModel, loss: number): Promise<never> {
  await expectFiniteWeights('evaluate', model.parameters);
  throw new ArgumentError({
    operation: 'evaluate',
    argument: 'loss',
    expected: 'a finite number',
    got: String(loss),
    hint: 'the weights are finite, so the activations are too large for the precision: try f32',
  });
}

function mean(sum: number, tokens: number): Evaluation {
  if (tokens === 0) {
    throw new ArgumentError({
      operation: 'evaluate',
      argument: 'the text',
      expected: 'a text or document of at least two tokens: the first is given, the others are predicted',
      got: 'too short',
    });
  }
  return { loss: sum / tokens, tokens };
}
