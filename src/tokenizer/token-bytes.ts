import { ByteTokenizer } from './byte-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';

const encoder = new TextEncoder();

/** How much text tokens are. */
export interface TextSize {
  /** Of UTF-8. */
  readonly bytes: number;
  /** Runs of bytes between ASCII white space, as `wc -w` counts them. */
  readonly words: number;
}

/** The size of a text; of byte tokens it is known also where the text begins or ends within a character. */
export function textSize(tokenizer: Tokenizer, tokens: Iterable<number> & { readonly length: number }): TextSize {
  let [bytes, words, inWord] = [0, 0, false];
  const count = (piece: Iterable<number>): void => {
    for (const byte of piece) {
      const blank = byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
      if (!blank && !inWord) words++;
      inWord = !blank;
      bytes++;
    }
  };
  if (tokenizer instanceof ByteTokenizer) count(tokens);
  else {
    // Piece by piece: the text may be too long for one string.
    const stream = tokenizer.stream();
    for (const id of tokens) count(encoder.encode(stream.push(id)));
    count(encoder.encode(stream.flush()));
  }
  return { bytes, words };
}

/** Where the tokens of a text begin in it. */
export interface TokenStarts {
  /**
   * The first byte of each token, ascending, at most the text's bytes. A token of a part of a character begins where the character does; one
   * that is no text (as one that begins every text) begins where the next does.
   */
  readonly starts: Float64Array;
  /** Whether the tokens spell the text, byte by byte. Where a tokenizer changes texts (lower case), places are in proportion. */
  readonly exact: boolean;
}

/**
 * Where tokens begin in their text.
 * @param text what was encoded
 * @param ids its tokens under `tokenizer`
 */
export function tokenStarts(tokenizer: Tokenizer, text: string, ids: ArrayLike<number>): TokenStarts {
  const starts = new Float64Array(ids.length);
  if (tokenizer instanceof ByteTokenizer) return { starts: starts.map((_, i) => i), exact: true };
  const stream = tokenizer.stream();
  const lengths = new Float64Array(ids.length);
  let [unit, byte, all] = [0, 0, 0];
  for (let i = 0; i < ids.length; i++) {
    starts[i] = byte;
    const piece = stream.push(ids[i] as number);
    const { length } = encoder.encode(piece);
    lengths[i] = length;
    all += length;
    if (!text.startsWith(piece, unit)) continue;
    unit += piece.length;
    byte += length;
  }
  if (unit === text.length) return { starts, exact: true };
  const scale = encoder.encode(text).length / Math.max(1, all);
  let sum = 0;
  return {
    starts: lengths.map((length) => {
      const start = Math.round(sum * scale);
      sum += length;
      return start;
    }),
    exact: false,
  };
}
