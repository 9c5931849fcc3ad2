import type { LanguageModel, Prepared, State } from '../models/index.js';
import { scope, tensor, withoutScope, type Tensor } from '../tensor/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { ArgumentError } from '../util/errors.js';
import { utf8Length } from '../util/utf8.js';
import { Decoder } from './decoder.js';
import { boundaryByte, type Draft, type Drafter } from './speculation.js';

/** What is longer, as a prompt, is read in chunks. */
const longestPass = 64;

/** The longest character of UTF-8, less its last byte. */
const longestTail = 3;

/**
 * Drafts with a language model of subwords, greedily. What it has read of the text is kept as a state; where a draft was refused, it goes
 * back to that state and reads the text that is there instead.
 *
 * The end of a text may be the beginning of a subword: a blank begins a word, and a byte a character. Such bytes are not read, and the
 * first subword must begin with them.
 */
export class SubwordDrafter implements Drafter {
  readonly #model: LanguageModel;
  readonly #tokenizer: Tokenizer;
  /** The bytes of each id. */
  readonly #table: readonly (Uint8Array | undefined)[];
  readonly #prepared: Prepared;
  /** After `#covered` bytes of the text. */
  readonly #base: State;
  #covered = 0;
  /** After the base; null before anything was read. */
  #logits: Float32Array | null = null;
  /** After all of a draft but its last token. */
  readonly #ahead: State;
  readonly #decoder: Decoder;
  /** The text that the last draft makes whole, and the token that has not been read of it. */
  #drafted: { readonly from: number; readonly bytes: readonly number[]; readonly last: number } | null = null;

  /** @throws ArgumentError where the tokenizer's ids are no bytes by themselves, or it is another model's */
  constructor(model: LanguageModel, tokenizer: Tokenizer) {
    const operation = 'generate';
    const table = tokenizer.tokenBytes?.();
    if (table === undefined) {
      const [expected, hint] = ['one whose ids are bytes by themselves (a byte-level tokenizer.json, or bytes)', 'elapid tokenizer train makes one'];
      throw new ArgumentError({ operation, argument: 'draft.tokenizer', expected, got: 'one whose ids say nothing without their neighbours', hint });
    }
    const { vocabularySize } = model.config;
    if (tokenizer.vocabularySize > vocabularySize) {
      const expected = `that of draft.model, which has ${vocabularySize} ids`;
      throw new ArgumentError({ operation, argument: 'draft.tokenizer', expected, got: `one of ${tokenizer.vocabularySize} ids` });
    }
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#table = table;
    this.#prepared = model.prepare();
    [this.#base, this.#ahead] = [model.newState(1), model.newState(1)];
    this.#decoder = new Decoder(model, this.#ahead);
  }

  async propose(text: readonly number[], subwords: number): Promise<Draft> {
    const begun = await this.#follow(text);
    if (this.#logits === null) return { tokens: [], bytes: [] };
    let logits = this.#logits;
    const [tokens, bytes]: [number[], number[]] = [[], []];
    while (tokens.length < subwords) {
      const id = this.#best(logits, tokens.length === 0 ? begun : []);
      if (id === undefined) break;
      tokens.push(id);
      bytes.push(...(this.#table[id] as Uint8Array));
      if (tokens.length < subwords) logits = await this.#decoder.step([id]);
    }
    const last = tokens.at(-1);
    this.#drafted = last === undefined ? null : { from: this.#covered, bytes, last };
    return { tokens, bytes: bytes.slice(begun.length) };
  }

  dispose(): void {
    for (const one of [this.#decoder, this.#prepared, this.#base, this.#ahead]) one.dispose();
  }

  /** Brings the base to the end of the text. @returns the bytes there that were not read, with which the next token must begin */
  async #follow(text: readonly number[]): Promise<readonly number[]> {
    const drafted = this.#drafted;
    this.#drafted = null;
    if (drafted !== null && text.length === drafted.from + drafted.bytes.length && drafted.bytes.every((byte, i) => text[drafted.from + i] === byte)) {
      await this.#read([drafted.last], text.length);
      return [];
    }
    this.#ahead.assign(this.#base);
    const fresh = Uint8Array.from(text.slice(this.#covered));
    let length = wholeLength(fresh);
    // Of a text that is nothing else, even that is read.
    if (length === fresh.length && fresh.at(-1) === boundaryByte && (length > 1 || this.#logits !== null)) length--;
    const all = this.#tokenizer.encode(new TextDecoder('utf-8', { ignoreBOM: true }).decode(fresh.subarray(0, length)));
    // What begins a text stands only there, and nothing ends it.
    const ids = all.filter((id, i) => this.#table[id] !== undefined || (i === 0 && this.#logits === null));
    if (ids.length > 0) await this.#read(ids, this.#covered + length);
    return Array.from(fresh.subarray(length));
  }

  async #read(ids: ArrayLike<number>, covered: number): Promise<void> {
    this.#logits = Float32Array.from(await this.#logitsAfter(ids));
    this.#base.assign(this.#ahead);
    this.#covered = covered;
  }

  async #logitsAfter(ids: ArrayLike<number>): Promise<ArrayLike<number>> {
    if (ids.length === 1) return this.#decoder.step(ids);
    const logits = ids.length > longestPass ? await this.#model.read(ids, this.#ahead) : this.#pass(ids);
    try {
      return await logits.data();
    } finally {
      logits.dispose();
    }
  }

  #pass(ids: ArrayLike<number>): Tensor {
    this.#prepared.refresh();
    const input = () => tensor(this.#model.backend, Int32Array.from(ids), [1, ids.length], 'i32');
    return withoutScope(() => scope(() => this.#model.forwardLast(input(), { state: this.#ahead, prepared: this.#prepared })));
  }

  /** The likeliest id that is text and begins with `bytes`; of equals the lowest. */
  #best(logits: Float32Array, bytes: readonly number[]): number | undefined {
    let best: number | undefined;
    let largest = -Infinity;
    this.#table.forEach((token, id) => {
      const logit = logits[id] as number;
      if (token === undefined || !(logit > largest) || !bytes.every((byte, i) => token[i] === byte)) return;
      [best, largest] = [id, logit];
    });
    return best;
  }
}

/** How many bytes are there before a character at the end that is not whole. */
function wholeLength(bytes: Uint8Array): number {
  for (let tail = 1; tail <= Math.min(longestTail, bytes.length); tail++) {
    const first = bytes[bytes.length - tail] as number;
    if (first < 0x80) break;
    // A byte that begins a character of more bytes than there are.
    if (first >= 0xc0) return utf8Length(bytes.subarray(bytes.length - tail)) === tail ? bytes.length : bytes.length - tail;
  }
  return bytes.length;
}
