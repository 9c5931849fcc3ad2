import type { platform } from '#platform';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { describeByte, utf8Length } from '../util/utf8.js';
import { pieceBytes } from './line-scan.js';
import type { TokenArray } from './tokens.js';

type File = Awaited<ReturnType<typeof platform.openFile>>;

/** The most UTF-16 code units that every engine takes in one string: V8's bound, the smallest. */
export const longestString = 2 ** 29 - 24;

/** A text cannot be turned into tokens: the bytes from `offset` of the file on are the reason. */
export class TextError extends Error {
  constructor(
    /** What the text is, for `… is …`. */
    readonly what: string,
    readonly offset: number,
    readonly hint: string | undefined,
    options?: ErrorOptions,
  ) {
    super(what, options);
  }
}

/**
 * Bytes [start, end) of a file of UTF-8 as text, in pieces that never end within a character.
 * @throws TextError at the first byte that is not UTF-8
 */
export async function* textPieces(file: File, start: number, end: number): AsyncGenerator<string, void, void> {
  // A U+FEFF here is text like any other: the mark at the beginning of a file is left out by who opens it.
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  for (let offset = start; offset < end; offset += pieceBytes) {
    const length = Math.min(pieceBytes, end - offset);
    const piece = await file.read(offset, length);
    let text: string;
    try {
      text = decoder.decode(piece, { stream: offset + length < end });
    } catch (cause) {
      throw await firstBadByte(file, start, offset, length, cause);
    }
    yield text;
  }
}

/** Bytes before `offset` are right, but the last of them may begin a character that goes on after it. */
async function firstBadByte(file: File, start: number, offset: number, length: number, cause: unknown): Promise<TextError> {
  const from = Math.max(start, offset - 4);
  const bytes = await file.read(from, offset - from + length);
  const continuing = (byte: number | undefined) => byte !== undefined && (byte & 0xc0) === 0x80;
  let skipped = 0;
  while (from > start && skipped < offset - from && continuing(bytes[skipped])) skipped++;
  const at = skipped + utf8Length(bytes.subarray(skipped));
  return new TextError(`not UTF-8 (${describeByte(from + at, bytes[at])})`, from + at, undefined, { cause });
}

/**
 * The tokens of bytes [start, end) of a file of UTF-8, in the smallest array that holds the tokenizer's vocabulary. Where the
 * tokenizer can, the text is encoded in pieces, and what lies beyond the first `limit` tokens is not read.
 * @throws TextError where bytes are not UTF-8, or the text must be one string and is too long for it
 */
export async function encodeRange(file: File, start: number, end: number, tokenizer: Tokenizer, limit = Infinity): Promise<TokenArray> {
  const tokens = new TokenBuffer(tokenizer.vocabularySize, Math.min(limit, end - start));
  const stream = tokenizer.encodeStream?.();
  if (stream === undefined) {
    tokens.append(tokenizer.encode(await wholeText(file, start, end)));
  } else {
    for await (const text of textPieces(file, start, end)) {
      tokens.append(stream.push(text));
      if (tokens.length >= limit) return tokens.first(limit);
    }
    tokens.append(stream.flush());
  }
  return tokens.first(limit);
}

async function wholeText(file: File, start: number, end: number): Promise<string> {
  let text = '';
  for await (const piece of textPieces(file, start, end)) {
    if (text.length + piece.length > longestString) {
      const hint = 'make it several documents, with --document-separator or as JSON lines: each is tokenized by itself';
      throw new TextError(`longer than ${longestString} characters, and this tokenizer must see a text as a whole`, start, hint);
    }
    text += piece;
  }
  return text;
}

/** Tokens that come piece by piece. */
class TokenBuffer {
  #tokens: TokenArray;
  #length = 0;
  readonly #vocabularySize: number;

  constructor(vocabularySize: number, capacity: number) {
    this.#vocabularySize = vocabularySize;
    this.#tokens = newTokens(vocabularySize, capacity);
  }

  get length(): number {
    return this.#length;
  }

  append(ids: Int32Array): void {
    const length = this.#length + ids.length;
    if (length > this.#tokens.length) {
      const larger = newTokens(this.#vocabularySize, Math.max(length, Math.ceil(1.5 * this.#tokens.length)));
      larger.set(this.#tokens.subarray(0, this.#length));
      this.#tokens = larger;
    }
    this.#tokens.set(ids, this.#length);
    this.#length = length;
  }

  first(limit: number): TokenArray {
    return this.#tokens.subarray(0, Math.min(this.#length, limit));
  }
}

function newTokens(vocabularySize: number, length: number): TokenArray {
  if (vocabularySize <= 2 ** 8) return new Uint8Array(length);
  return vocabularySize <= 2 ** 16 ? new Uint16Array(length) : new Int32Array(length);
}
