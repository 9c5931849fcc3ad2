import type { LanguageModel } from '../models/index.js';
import { logitLosses } from '../ops/cross-entropy/cross-entropy.js';
import { defaultChunkRows } from '../ops/cross-entropy/linear-cross-entropy.js';
import { embedding, reshape, sampleTokens } from '../ops/index.js';
import { empty, scope, tensor, type Tensor } from '../tensor/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { explainLoss } from '../train/evaluate.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError } from '../util/errors.js';
import { encodeRequest } from './encode-request.js';
import type { ScoreRequest } from './item.js';

/** How likely a continuation is. */
export interface Score {
  /** ln of the probability of the continuation after its context: the sum over its tokens. */
  readonly logLikelihood: number;
  /** Whether every token of the continuation is the likeliest at its place: greedy decoding would give it. */
  readonly greedy: boolean;
  /** Tokens of context and continuation. */
  readonly tokens: number;
  readonly continuationTokens: number;
}

/** How scoring is watched and interrupted. */
export interface ScoreConduct {
  /** Called after each pass with the number of requests that are scored. */
  readonly onProgress?: (scored: number, total: number) => void;
  readonly signal?: AbortSignalLike;
}

/** Positions a pass, padding included: a second of work for a small model on a CPU, so that an interruption takes effect soon. */
const passPositions = 1024;

interface Sequence {
  /** Where its score goes. */
  readonly index: number;
  /** The last id is predicted, but not read. */
  readonly ids: Int32Array;
  readonly continuationTokens: number;
  readonly tokens: number;
}

/**
 * Scores continuations, each after its own context and no state. Requests of like length are read side by side; what pads a row stands after
 * its end, where a causal model does not see it. Where the model has a context length, only the end of a longer request is read.
 * @returns a score for each request, in their order
 * @throws ArgumentError where a request has no tokens to score, a continuation is beyond the model's context, or a score is not finite; when the model is
 *   trained meanwhile
 * @throws DisposedError when model or backend are disposed, meanwhile too
 */
export async function scoreContinuations(model: LanguageModel, tokenizer: Tokenizer, requests: readonly ScoreRequest[], { onProgress, signal }: ScoreConduct = {}): Promise<Score[]> {
  const { version } = model;
  const sequences: Sequence[] = [];
  for (const [index, request] of requests.entries()) {
    // Tens of thousands of texts take seconds to encode: whoever interrupts is heard meanwhile.
    if (index % 256 === 255) await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    sequences.push(sequenceOf(model, tokenizer, request, index));
  }
  // The longest first: what memory it takes is known at the beginning.
  sequences.sort((a, b) => b.ids.length - a.ids.length || a.index - b.index);
  const scores = new Array<Score>(requests.length);
  for (let start = 0; start < sequences.length; ) {
    signal?.throwIfAborted();
    model.expectUnchanged('scoreContinuations', version);
    const longest = sequences[start] as Sequence;
    const batch = sequences.slice(start, start + Math.max(1, Math.floor(passPositions / (longest.ids.length - 1))));
    const found = await scoreBatch(model, batch);
    batch.forEach(({ index }, i) => (scores[index] = found[i] as Score));
    start += batch.length;
    onProgress?.(start, sequences.length);
  }
  return scores;
}

function sequenceOf(model: LanguageModel, tokenizer: Tokenizer, request: ScoreRequest, index: number): Sequence {
  const { ids, continuationTokens } = encodeRequest(tokenizer, request);
  model.checkIds('scoreContinuations', ids);
  const { contextLength = Infinity } = model.config;
  if (continuationTokens > contextLength) {
    const [expected, got] = [`at most the ${contextLength} tokens of the model's context`, `${continuationTokens} tokens`];
    throw new ArgumentError({ operation: 'scoreContinuations', argument: `continuation of request ${index}`, expected, got });
  }
  return { index, ids: ids.subarray(Math.max(0, ids.length - 1 - contextLength)), continuationTokens, tokens: ids.length };
}

/** @param batch the longest first */
async function scoreBatch(model: LanguageModel, batch: readonly Sequence[]): Promise<Score[]> {
  const length = (batch[0] as Sequence).ids.length - 1;
  const inputs = new Int32Array(batch.length * length);
  const [places, targets]: [number[], number[]] = [[], []];
  for (const [row, { ids, continuationTokens }] of batch.entries()) {
    inputs.set(ids.subarray(0, -1), row * length);
    for (let at = ids.length - continuationTokens; at < ids.length; at++) {
      places.push(row * length + at - 1);
      targets.push(ids[at] as number);
    }
  }
  const parts = scope(() => predictions(model, inputs, [batch.length, length], places, targets));
  let losses: number[];
  let likeliest: number[];
  try {
    losses = (await Promise.all(parts.map((part) => part.losses.exactData()))).flatMap((some) => Array.from(some));
    likeliest = (await Promise.all(parts.map((part) => part.likeliest.data()))).flatMap((some) => Array.from(some));
  } finally {
    for (const part of parts) for (const one of [part.losses, part.likeliest]) one.dispose();
  }
  const strange = losses.find((loss) => !Number.isFinite(loss));
  if (strange !== undefined) await explainLoss(model, strange);
  let at = 0;
  return batch.map(({ continuationTokens, tokens }) => {
    const [from, to] = [at, (at += continuationTokens)];
    const logLikelihood = -losses.slice(from, to).reduce((sum, loss) => sum + loss, 0);
    const greedy = targets.slice(from, to).every((target, i) => target === likeliest[from + i]);
    return { logLikelihood, greedy, tokens, continuationTokens };
  });
}

/** Losses and likeliest tokens at `places` of [B·L]; logits are worked out there alone, some rows at a time. */
function predictions(
  model: LanguageModel,
  inputs: Int32Array,
  shape: readonly [batch: number, length: number],
  places: readonly number[],
  targets: readonly number[],
): { losses: Tensor<'f32'>; likeliest: Tensor<'i32'> }[] {
  const { backend } = model;
  const put = (ids: ArrayLike<number>, extents: readonly number[]) => tensor(backend, Int32Array.from(ids), extents, 'i32');
  const hidden = model.hidden(put(inputs, shape));
  const rows = reshape(hidden, [shape[0] * shape[1], hidden.columns]);
  const chunk = defaultChunkRows(backend, model.config.vocabularySize);
  const parts: { losses: Tensor<'f32'>; likeliest: Tensor<'i32'> }[] = [];
  for (let start = 0; start < places.length; start += chunk) {
    const count = Math.min(chunk, places.length - start);
    parts.push(
      scope(() => {
        const logits = model.logits(embedding(put(places.slice(start, start + count), [count]), rows));
        const likeliest = empty(backend, [count], 'i32');
        sampleTokens(logits, { ids: likeliest, counter: put([0], [1]) }, { temperature: 0, seed: 0 });
        return { losses: logitLosses(logits, put(targets.slice(start, start + count), [count])), likeliest };
      }),
    );
  }
  return parts;
}
