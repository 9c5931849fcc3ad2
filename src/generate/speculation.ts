import type { LanguageModel, Prepared, State, StateOptions } from '../models/index.js';
import { scope, tensor, withoutScope, type Tensor } from '../tensor/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError } from '../util/errors.js';
import { Decoder, readPrompt } from './decoder.js';
import { explained } from './explained.js';
import { Sampler, type SamplingOptions } from './sampling.js';

/** Bytes that are guessed. */
export interface Draft {
  /** The drafter's own ids of them. */
  readonly tokens: readonly number[];
  readonly bytes: readonly number[];
}

/** Guesses how a text goes on. */
export interface Drafter {
  /**
   * @param text its bytes so far; each call's begins with the one before it
   * @param subwords how many tokens to guess at most
   */
  propose(text: readonly number[], subwords: number): Promise<Draft>;
  dispose(): void;
}

/** One round of speculative decoding. */
export interface SpeculationRound extends Draft {
  /** For each drafted byte up to the first that was refused, how many bytes the model finds likelier: 0 is its own choice. */
  readonly ranks: readonly number[];
  /** How many drafted bytes were taken: all before the first that was refused. */
  readonly accepted: number;
  /** What the model wrote by itself instead of the first that was refused, up to a blank. */
  readonly correction: readonly number[];
}

/** A smaller model that guesses ahead of a byte model. */
export interface DraftOptions {
  readonly model: LanguageModel;
  /** Of that model. Its ids must be bytes by themselves (`Tokenizer.tokenBytes`). */
  readonly tokenizer: Tokenizer;
  /** Subwords a round; an integer ≥ 1, default 3. */
  readonly subwords?: number | undefined;
  /**
   * Lossy: takes every drafted byte that is among so many likeliest ones, where by default only the model's own choice is taken. The text is then
   * another than the model's. Only with temperature 0; an integer ≥ 1, default 1, which loses nothing.
   */
  readonly lossyRank?: number | undefined;
  /** Called at the end of each round. */
  readonly onRound?: ((round: SpeculationRound) => void) | undefined;
}

/** The blank, up to which a model writes by itself when a draft was refused: a drafter begins anew at a word. */
export const boundaryByte = 0x20;

/** How `speculate` goes about it. */
export interface SpeculationOptions extends SamplingOptions, StateOptions, Pick<DraftOptions, 'subwords' | 'lossyRank' | 'onRound'> {
  readonly maxTokens: number;
  /** Default: the blank. */
  readonly boundary?: number;
  readonly signal?: AbortSignalLike | undefined;
}

/**
 * Generates bytes after a prompt, several at a time where a drafter guesses them. The model reads a draft in one pass, which gives its
 * distribution before every byte, and draws from each in turn. A draw that is the drafted byte is taken; the first that is not goes in
 * its place, and the model writes by itself to the end of the word. All draws are those of plain generation, in the same order: the text is the
 * same too, where rounding in a pass does not turn a draw.
 *
 * In other words, a draft is a point proposal: byte d is taken with probability p(d), and else replaced by a draw from p without d.
 *
 * Source: MambaByte (Wang et al. 2024), section 3.2 and algorithm 1, whose β is `lossyRank`. Where a whole draft is taken, nothing is drawn from the
 * distribution after it before the next round: the drafter's word would be cut.
 * @throws ArgumentError for options that cannot be, or a model that is not one of bytes
 */
export async function* speculate(
  model: LanguageModel,
  promptIds: ArrayLike<number>,
  drafter: Drafter,
  options: SpeculationOptions,
): AsyncGenerator<number, void, void> {
  const { subwords = 3, lossyRank = 1, boundary = boundaryByte, maxTokens, onRound, signal } = options;
  checkOptions(model, subwords, lossyRank, options);
  const sampler = new Sampler(options);
  const text = Array.from(promptIds);
  const end = text.length + maxTokens;
  const choose = (logits: Float32Array) => explained(model, () => sampler.sample(logits, text));
  const verifier = new Verifier(model, options);
  try {
    await verifier.begin(promptIds, signal);
    while (text.length < end) {
      signal?.throwIfAborted();
      const draft = await drafter.propose(text, subwords);
      const strange = draft.bytes.findIndex((byte) => byte >= model.config.vocabularySize);
      const bytes = draft.bytes.slice(0, Math.min(strange < 0 ? Infinity : strange, end - text.length));
      const round = { tokens: draft.tokens, bytes, ranks: [] as number[], accepted: 0, correction: [] as number[] };
      try {
        let next: number | undefined;
        let after: readonly Float32Array[] = [];
        for (const [i, byte] of bytes.entries()) {
          // What comes first is known already: a draft that begins wrongly costs no pass.
          const logits = i === 0 ? verifier.logits : (after[i - 1] as Float32Array);
          const rank = rankOf(logits, byte);
          round.ranks.push(rank);
          if (lossyRank === 1 || rank >= lossyRank) {
            next = await choose(logits);
            if (next !== byte) break;
          }
          next = undefined;
          signal?.throwIfAborted();
          text.push(byte);
          round.accepted++;
          yield byte;
          if (i === 0 && text.length < end) after = await verifier.read(bytes);
        }
        if (next === undefined && bytes.length > 0) continue;
        let taken = bytes.slice(0, round.accepted);
        for (;;) {
          next ??= await choose(verifier.logits);
          text.push(next);
          round.correction.push(next);
          yield next;
          if (text.length === end) return;
          signal?.throwIfAborted();
          await verifier.goOn(taken, next);
          taken = [];
          if (next === boundary) break;
          next = undefined;
        }
      } finally {
        onRound?.(round);
      }
    }
  } finally {
    verifier.dispose();
  }
}

/** A byte model that reads drafts, and goes back where they were refused. */
class Verifier {
  readonly #model: LanguageModel;
  /** After the text, and after a draft while it is looked at. */
  readonly #state: State;
  /** Before the draft. */
  readonly #kept: State;
  readonly #prepared: Prepared;
  readonly #decoder: Decoder;
  /** After what the state has read, until the next call. */
  logits: Float32Array = new Float32Array(0);

  constructor(model: LanguageModel, options: StateOptions) {
    model.expectLive('generate');
    this.#model = model;
    [this.#state, this.#kept] = [model.newState(1, options), model.newState(1, options)];
    this.#prepared = model.prepare();
    this.#decoder = new Decoder(model, this.#state);
  }

  async begin(ids: ArrayLike<number>, signal: AbortSignalLike | undefined): Promise<void> {
    this.logits = await readPrompt(this.#model, ids, this.#state, { signal });
  }

  /** Reads a draft. @returns the logits after each of its bytes */
  async read(bytes: readonly number[]): Promise<readonly Float32Array[]> {
    this.#kept.assign(this.#state);
    const rows = await this.#pass(bytes, 'forward');
    const { vocabularySize } = this.#model.config;
    const after = bytes.map((_, i) => rows.subarray(i * vocabularySize, (i + 1) * vocabularySize));
    this.logits = after.at(-1) as Float32Array;
    return after;
  }

  /** Reads a byte that the model has written. @param taken where a draft was read, what was taken of it: the rest is forgotten */
  async goOn(taken: readonly number[], next: number): Promise<void> {
    if (taken.length === 0) {
      this.logits = await this.#decoder.step([next]);
      return;
    }
    this.#state.assign(this.#kept);
    // One pass in place of two: what was taken is read again together with what follows.
    this.logits = await this.#pass([...taken, next], 'forwardLast');
  }

  dispose(): void {
    for (const one of [this.#decoder, this.#prepared, this.#state, this.#kept]) one.dispose();
  }

  async #pass(bytes: readonly number[], pass: 'forward' | 'forwardLast'): Promise<Float32Array> {
    this.#prepared.refresh();
    const ids = () => tensor(this.#model.backend, Int32Array.from(bytes), [1, bytes.length], 'i32');
    const logits: Tensor = withoutScope(() => scope(() => this.#model[pass](ids(), { state: this.#state, prepared: this.#prepared })));
    try {
      return Float32Array.from(await logits.data());
    } finally {
      logits.dispose();
    }
  }
}

/** How many logits are larger than that of `id`. */
function rankOf(logits: Float32Array, id: number): number {
  const own = logits[id] as number;
  let rank = 0;
  for (const logit of logits) if (logit > own) rank++;
  return rank;
}

function checkOptions(model: LanguageModel, subwords: number, lossyRank: number, { temperature = 1, repetitionPenalty = 1 }: SamplingOptions): void {
  const wrong = (argument: string, expected: string, got: string, hint?: string) => new ArgumentError({ operation: 'generate', argument, expected, got, hint });
  const { vocabularySize } = model.config;
  if (vocabularySize > 256) {
    throw wrong('model', 'a model of bytes, of at most 256 ids, where another drafts', `one of ${vocabularySize} ids`, 'leave the draft out');
  }
  if (!Number.isInteger(subwords) || subwords < 1) throw wrong('draft.subwords', 'an integer ≥ 1', String(subwords));
  if (!Number.isInteger(lossyRank) || lossyRank < 1) throw wrong('draft.lossyRank', 'an integer ≥ 1 (1 loses nothing)', String(lossyRank));
  if (lossyRank === 1) return;
  const hint = 'a lossy draft would give neither the likeliest text nor one drawn as the model says';
  if (temperature !== 0) throw wrong('draft.lossyRank', '1, or temperature 0', `${lossyRank} at temperature ${temperature}`, hint);
  if (repetitionPenalty !== 1) throw wrong('draft.lossyRank', '1, or no repetition penalty', `${lossyRank} with a penalty of ${repetitionPenalty}`, hint);
}
