import type { LanguageModel, State, StateOptions } from '../models/index.js';
import { ByteTokenizer, type Tokenizer } from '../tokenizer/index.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError } from '../util/errors.js';
import { Decoder, readPrompt } from './decoder.js';
import { explained } from './explained.js';
import { Sampler, type SamplingOptions } from './sampling.js';
import { drawsOnDevice, SamplingDecoder } from './sampling-decoder.js';
import { speculate, type DraftOptions } from './speculation.js';
import { StopMatcher } from './stop.js';
import { SubwordDrafter } from './subword-drafter.js';

export interface GenerateOptions extends SamplingOptions {
  /** The most tokens to generate; default 256. */
  readonly maxTokens?: number | undefined;
  /**
   * Goes on from here, and is afterwards the state after the last token fed back. Nothing else may change it meanwhile. None: a new
   * one, freed at the end.
   */
  readonly state?: State | undefined;
  /** What keys and values are kept in, of models with attention (`StateOptions`); of a given `state` its own. */
  readonly cacheDType?: StateOptions['cacheDType'];
  /**
   * Speculative decoding of a byte model: another model guesses ahead. Equal seeds give the text that they give without it, on backends that do not
   * draw on the device, as the CPU; the distribution is the same everywhere. Not with a state to go on from, whose text the other model has not read.
   */
  readonly draft?: DraftOptions | undefined;
  /** Ends the generation: the iterator throws the signal's reason at its next step. */
  readonly signal?: AbortSignalLike | undefined;
}

export interface GenerateTextOptions extends GenerateOptions {
  /** Texts that end the generation; they are not part of the output. */
  readonly stop?: readonly string[] | undefined;
}

/**
 * Generates token ids after a prompt, one at a time. Leaving the loop early frees everything.
 * @param promptIds at least one id
 * @throws ArgumentError for a bad prompt or bad options; for a state of another model, or one that another generation is using
 * @throws DisposedError when model, state or backend are disposed, meanwhile too
 */
export async function* generateTokens(
  model: LanguageModel,
  promptIds: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, void> {
  const { maxTokens = 256, signal } = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 0) {
    throw new ArgumentError({ operation: 'generate', argument: 'maxTokens', expected: 'an integer ≥ 0', got: String(maxTokens) });
  }
  model.expectLive('generate');
  if (options.draft !== undefined) {
    yield* drafted(model, promptIds, { ...options, ...options.draft, maxTokens }, options.draft);
    return;
  }
  options.state?.expectOf('generate', model, 1);
  if (options.state !== undefined && options.cacheDType !== undefined && options.cacheDType !== options.state.cacheDType) {
    throw new ArgumentError({ operation: 'generate', argument: 'cacheDType', expected: `${options.state.cacheDType}, as the given state’s`, got: options.cacheDType });
  }
  const sampler = new Sampler(options);
  const state = options.state ?? model.newState(1, options);
  const history = Array.from(promptIds);
  // Where a read costs as much as steps do, several are queued, drawing on the device. A state that outlives the generation must
  // not run ahead of the tokens that were asked for.
  const ahead = options.state === undefined && drawsOnDevice(options) ? model.backend.stepsAhead : 1;
  const use = state.take('generate', 'a generation');
  let decoder: Decoder | undefined;
  try {
    let logits = await readPrompt(model, promptIds, state, { signal });
    const draw = () => explained(model, () => sampler.sample(logits, history));
    if (ahead > 1) {
      yield* drawnAhead(model, state, await draw(), { ...options, maxTokens, ahead });
      return;
    }
    for (let count = 0; count < maxTokens; count++) {
      signal?.throwIfAborted();
      const id = await draw();
      history.push(id);
      yield id;
      if (count + 1 === maxTokens) return;
      signal?.throwIfAborted();
      decoder ??= new Decoder(model, state, use);
      logits = await decoder.step([id]);
    }
  } finally {
    decoder?.dispose();
    use.end();
    if (options.state === undefined) state.dispose();
  }
}

async function* drafted(
  model: LanguageModel,
  promptIds: ArrayLike<number>,
  options: GenerateOptions & DraftOptions & { readonly maxTokens: number },
  draft: DraftOptions,
): AsyncGenerator<number, void, void> {
  if (options.state !== undefined) {
    const [expected, hint] = ['none where another model drafts', 'give the whole text as the prompt'];
    throw new ArgumentError({ operation: 'generate', argument: 'state', expected, got: 'given', hint });
  }
  const drafter = new SubwordDrafter(draft.model, draft.tokenizer);
  try {
    yield* speculate(model, promptIds, drafter, options);
  } finally {
    drafter.dispose();
  }
}

/** A first token and those after it, drawn on the device, `ahead` at a time. */
async function* drawnAhead(
  model: LanguageModel,
  state: State,
  first: number,
  options: GenerateOptions & { readonly maxTokens: number; readonly ahead: number },
): AsyncGenerator<number, void, void> {
  const { temperature = 1, seed = Math.floor(Math.random() * 2 ** 32), maxTokens, ahead, signal } = options;
  if (maxTokens === 0) return;
  yield first;
  if (maxTokens === 1) return;
  const decoder = new SamplingDecoder(model, state, first, { temperature, seed, capacity: maxTokens - 1 });
  try {
    for (let count = 1; count < maxTokens; count += ahead) {
      signal?.throwIfAborted();
      yield* await explained(model, () => decoder.next(Math.min(ahead, maxTokens - count)));
    }
  } finally {
    decoder.dispose();
  }
}

/**
 * Generates text after a prompt, in pieces as they become certain: never half a character, and nothing that may still turn
 * out to be a stop text. Ends at the tokenizer's end-of-text token as well, and at those of the model (`endOfText`).
 *
 * After an empty prompt it begins a text: with the token that begins one, else with one that ends the text before it, else, on
 * bytes, with a line end. That token is no part of the output.
 * @throws ArgumentError for bad options, and for an empty prompt where a state goes on, or the vocabulary has no such token
 */
export async function* generateText(
  model: LanguageModel,
  tokenizer: Tokenizer,
  prompt: string,
  options: GenerateTextOptions = {},
): AsyncGenerator<string, void, void> {
  if (options.draft !== undefined && !(tokenizer instanceof ByteTokenizer)) {
    throw new ArgumentError({ operation: 'generate', argument: 'tokenizer', expected: 'bytes where another model drafts', got: `one of ${tokenizer.vocabularySize} ids` });
  }
  const matcher = new StopMatcher(options.stop ?? []);
  const decoded = tokenizer.stream();
  const ends = new Set([tokenizer.endOfText, ...model.endOfText]);
  const encoded = tokenizer.encode(prompt);
  const ids = encoded.length > 0 || options.state !== undefined ? encoded : firstIds(tokenizer, model);
  // Decoders treat the first id of a text in a way of its own: the first that is generated comes after these.
  if (prompt !== '') for (const id of ids.slice(-decodedBefore)) decoded.push(id);
  for await (const id of generateTokens(model, ids, options)) {
    if (ends.has(id)) break;
    const text = matcher.push(decoded.push(id));
    if (text !== '') yield text;
    if (matcher.stopped !== undefined) return;
  }
  const rest = matcher.push(decoded.flush()) + matcher.flush();
  if (rest !== '') yield rest;
}

/** Ids of the prompt that the decoder sees: enough for a whole character. */
const decodedBefore = 8;

/** What stands before a text that begins with nothing. */
function firstIds(tokenizer: Tokenizer, { endOfText }: LanguageModel): Int32Array {
  const first = tokenizer.beginOfText ?? tokenizer.endOfText ?? endOfText[0];
  if (first !== undefined) return Int32Array.of(first);
  if (tokenizer instanceof ByteTokenizer) return tokenizer.encode('\n');
  const hint = 'the vocabulary has no token that begins or ends a text.';
  throw new ArgumentError({ operation: 'generate', argument: 'the prompt', expected: 'some text', got: 'empty', hint });
}
