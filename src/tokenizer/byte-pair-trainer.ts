import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError } from '../util/errors.js';
import { bytesInOrder, tokenOfBytes } from './byte-characters.js';
import { dividedEncoder } from './divisible.js';
import { PairHeap } from './pair-heap.js';

/** GPT-2's words: what merges never reach across. */
const words = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The largest vocabulary: pairs of ids are whole numbers of a double. */
export const largestVocabulary = 1_000_000;
const keyOf = (left: number, right: number): number => left * 2 ** 20 + right;
const pairOf = (key: number): [left: number, right: number] => [Math.floor(key / 2 ** 20), key % 2 ** 20];

/** Longer words, as of texts without blanks, are counted in parts: a merge goes through all of a word. */
const longestWord = 1024;

/** How long a part of the work may keep others waiting, in milliseconds. */
const patienceMs = 50;

const nothing = new Int32Array(0);

/** How a vocabulary is made. */
export interface BytePairOptions {
  /** Ids: 256 bytes and the merges; an integer from 257 to 1,000,000. A text without so many pairs that occur twice gives fewer. */
  readonly vocabularySize: number;
  /** Called now and then with the ids so far. */
  readonly onProgress?: (ids: number) => void;
  readonly signal?: AbortSignalLike;
}

/**
 * Learns a byte-level byte-pair encoding: from single bytes on, the pair of neighbours that occurs most often becomes a token of its own,
 * again and again. Of equally frequent pairs the one with the lower ids goes first, so that a text always gives the same tokenizer. Texts are read in
 * pieces, of which different words are kept, with their counts.
 *
 * Source: Sennrich et al. 2016, algorithm 1; on bytes and with its words GPT-2 (Radford et al. 2019).
 */
export class BytePairTrainer {
  readonly #words = new Map<string, number>();
  readonly #text = dividedEncoder(
    (text) => {
      this.#count(text);
      return nothing;
    },
    { before: nothing, after: nothing },
  );

  /** Different words so far. */
  get words(): number {
    return this.#words.size;
  }

  /** Reads a piece of a text, which must not end within a surrogate pair. */
  add(text: string): void {
    this.#text.push(text);
  }

  /** Ends a text: nothing reaches from it into the next. */
  endText(): void {
    this.#text.flush();
  }

  /**
   * Makes the tokenizer of the texts so far.
   * @returns a tokenizer.json, for `HuggingFaceTokenizer` and every program that reads such files
   * @throws ArgumentError where the vocabulary's size cannot be, or there is no text
   * @throws the signal's reason
   */
  async train({ vocabularySize, onProgress, signal }: BytePairOptions): Promise<Record<string, unknown>> {
    const operation = 'BytePairTrainer';
    if (!Number.isInteger(vocabularySize) || vocabularySize <= 256 || vocabularySize > largestVocabulary) {
      const expected = `an integer from 257 (all bytes and one merge) to ${largestVocabulary}`;
      throw new ArgumentError({ operation, argument: 'vocabularySize', expected, got: String(vocabularySize) });
    }
    this.endText();
    if (this.#words.size === 0) throw new ArgumentError({ operation, argument: 'the text', expected: 'some text', got: 'empty' });
    const merger = new Merger(this.#words);
    const ids = new Map(bytesInOrder.map((byte, id) => [tokenOfBytes([byte]), id]));
    const tokens = [...ids.keys()];
    const merges: string[] = [];
    let paused = performance.now();
    while (tokens.length < vocabularySize) {
      const pair = merger.next();
      if (pair === undefined) break;
      const [left, right] = [tokens[pair[0]] as string, tokens[pair[1]] as string];
      merges.push(`${left} ${right}`);
      // Two pairs may spell the same: a·bc and ab·c.
      const token = left + right;
      const id = ids.get(token) ?? tokens.push(token) - 1;
      ids.set(token, id);
      merger.join(pair, id);
      if (performance.now() - paused < patienceMs) continue;
      onProgress?.(tokens.length);
      await new Promise<void>((resolve) => {
        setTimeout(resolve, 0);
      });
      signal?.throwIfAborted();
      paused = performance.now();
    }
    return definitionOf(ids, merges);
  }

  #count(text: string): void {
    for (const word of text.match(words) ?? []) this.#words.set(word, (this.#words.get(word) ?? 0) + 1);
  }
}

/** Words as symbols, and their pairs of neighbours as merges change them. */
class Merger {
  readonly #symbols: number[][] = [];
  /** How often each word occurs. */
  readonly #times: number[] = [];
  /** How often each pair occurs. */
  readonly #counts = new Map<number, number>();
  /** Words that hold a pair, or once held it; a word may stand there twice. */
  readonly #places = new Map<number, number[]>();
  /** An entry's count is at least its pair's: it is looked at when it comes first. */
  readonly #heap = new PairHeap();

  constructor(words: ReadonlyMap<string, number>) {
    const ids = new Int32Array(256);
    bytesInOrder.forEach((byte, id) => (ids[byte] = id));
    const encoder = new TextEncoder();
    for (const [word, times] of words) {
      const symbols = Array.from(encoder.encode(word), (byte) => ids[byte] as number);
      for (let from = 0; from < symbols.length; from += longestWord) {
        const part = symbols.slice(from, from + longestWord);
        const place = this.#symbols.push(part) - 1;
        this.#times.push(times);
        for (let i = 1; i < part.length; i++) this.#add(keyOf(part[i - 1] as number, part[i] as number), times, place);
      }
    }
    for (const [key, count] of this.#counts) this.#heap.push(count, key);
  }

  /** The most frequent pair; undefined where none occurs twice. It is to be joined. */
  next(): [left: number, right: number] | undefined {
    for (let top = this.#heap.pop(); top !== undefined; top = this.#heap.pop()) {
      const count = this.#counts.get(top.key) ?? 0;
      if (count < top.count) {
        if (count > 0) this.#heap.push(count, top.key);
        continue;
      }
      // Counted more often since: another entry has said so.
      if (count > top.count) continue;
      return count < 2 ? undefined : pairOf(top.key);
    }
    return undefined;
  }

  /** Makes a pair one symbol wherever it stands. */
  join([left, right]: readonly [number, number], symbol: number): void {
    const key = keyOf(left, right);
    const grown = new Set<number>();
    for (const place of this.#places.get(key) ?? []) {
      const symbols = this.#symbols[place] as number[];
      const times = this.#times[place] as number;
      let length = 0;
      for (let i = 0; i < symbols.length; i++) {
        if (symbols[i] !== left || symbols[i + 1] !== right) {
          symbols[length++] = symbols[i] as number;
          continue;
        }
        const [before, after] = [length > 0 ? symbols[length - 1] : undefined, symbols[i + 2]];
        if (before !== undefined) {
          this.#add(keyOf(before, left), -times, place);
          this.#add(keyOf(before, symbol), times, place);
          grown.add(keyOf(before, symbol));
        }
        if (after !== undefined) {
          this.#add(keyOf(right, after), -times, place);
          this.#add(keyOf(symbol, after), times, place);
          grown.add(keyOf(symbol, after));
        }
        symbols[length++] = symbol;
        i++;
      }
      symbols.length = length;
    }
    this.#counts.delete(key);
    this.#places.delete(key);
    for (const one of grown) {
      const count = this.#counts.get(one) ?? 0;
      if (count > 0) this.#heap.push(count, one);
    }
  }

  #add(key: number, times: number, place: number): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + times);
    if (times < 0) return;
    const places = this.#places.get(key);
    if (places === undefined) this.#places.set(key, [place]);
    else if (places.at(-1) !== place) places.push(place);
  }
}

/** A tokenizer.json. */
function definitionOf(ids: ReadonlyMap<string, number>, merges: readonly string[]): Record<string, unknown> {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null },
    ...{ pre_tokenizer: byteLevel, post_processor: null, decoder: byteLevel },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null },
      ...{ fuse_unk: false, byte_fallback: false, ignore_merges: false },
      // Not an object that is written to: a token may be `__proto__`.
      vocab: Object.fromEntries(ids),
      merges,
    },
  };
}
