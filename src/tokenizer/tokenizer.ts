/** Turns text into the ids a model reads, and ids into text. */
export interface Tokenizer {
  /** Number of ids: every id is in [0, vocabularySize). A model may have more, since vocabularies are padded. */
  readonly vocabularySize: number;
  /** The id that ends a document, where the vocabulary has one. */
  readonly endOfText?: number;
  /** The id that begins a text, where the vocabulary has one. */
  readonly beginOfText?: number;
  /** The ids of `text`. */
  encode(text: string): Int32Array;
  /** Encodes a text that comes in pieces. Absent where ids may depend on all of the text. */
  encodeStream?(): IdStream;
  /** The text of `ids`; bytes that are not UTF-8 become U+FFFD. @throws ArgumentError where an id cannot be one */
  decode(ids: ArrayLike<number>): string;
  /** A decoder that takes ids one at a time, for text that is shown while it is generated. */
  stream(): TextStream;
  /**
   * The bytes of each id by itself; undefined for an id that is no text. Absent where what an id says depends on its neighbours, or
   * ids are no bytes.
   */
  tokenBytes?(): readonly (Uint8Array | undefined)[];
}

/** Decodes ids one at a time; what it returns, put together, is what `decode` returns for all of them. */
export interface TextStream {
  /** Takes one id and returns the text that no later id can change, never half a character; often the empty string. */
  push(id: number): string;
  /** Ends the stream: returns what was held back, with U+FFFD for a character that never became whole. */
  flush(): string;
}

/** Encodes a text piece by piece; the ids it returns, put together, are those of `encode` for the whole. */
export interface IdStream {
  /** Takes a piece, which must not end within a surrogate pair, and returns the ids that no later piece can change. */
  push(text: string): Int32Array;
  /** Ends the text: returns the ids of what was held back. */
  flush(): Int32Array;
}
