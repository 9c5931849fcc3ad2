import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { ArgumentError, CheckpointError } from '../util/errors.js';
import { bytesOfToken } from './byte-characters.js';
import { dividedEncoder, isDivisible } from './divisible.js';
import { parseConfig, parseDefinition } from './hugging-face-schema.js';
import type { TokenizerConfig, TokenizerDefinition } from './hugging-face-schema.js';
import { incrementalDecoder } from './incremental.js';
import type { IdStream, TextStream, Tokenizer } from './tokenizer.js';

/**
 * What is used of the library. Its own declarations import files without their endings, which Node's resolution does not
 * follow: TypeScript sees nothing of them.
 */
interface Library {
  encode(text: string, options?: { add_special_tokens: boolean }): { ids: (number | undefined)[]; tokens: string[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
}

const createLibrary = LibraryTokenizer as unknown as new (definition: object, config: object) => Library;

/** The name of the token that ends a document in GPT-2, GPT-NeoX and the Mamba models, which use the latter's. */
const usualEndOfText = '<|endoftext|>';

/** Names of the files a tokenizer was read from, for messages. */
export interface TokenizerFiles {
  tokenizer: string;
  config: string;
}

/**
 * A tokenizer from a tokenizer.json, such as the one of GPT-NeoX that the published Mamba models use.
 *
 * Where it differs from transformers: `decode` never "cleans up" spaces before punctuation, so that it gives back the
 * text that was encoded (normalised as the file says) and a stream gives the same text as `decode`. Special tokens
 * are kept in decoded text; ids without a token (a padded vocabulary has some) give no text.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfText?: number;
  readonly beginOfText?: number;
  /** Absent where the file's parts do not allow to cut a text: then the ids of a part may differ from those of the whole. */
  readonly encodeStream?: () => IdStream;
  /** Absent where the file's decoder is not the byte-level one, as GPT-2's and GPT-NeoX's is. */
  readonly tokenBytes?: () => readonly (Uint8Array | undefined)[];
  readonly #library: Library;

  /**
   * @param tokenizerJson the parsed tokenizer.json
   * @param configJson the parsed tokenizer_config.json, where there is one: it names the token that ends a text
   * @throws CheckpointError where a file is not what it should be, or asks for something the library does not know
   */
  constructor(
    tokenizerJson: unknown,
    configJson: unknown = {},
    files: TokenizerFiles = { tokenizer: 'tokenizer.json', config: 'tokenizer_config.json' },
  ) {
    const definition = parseDefinition(tokenizerJson, files.tokenizer);
    const config = parseConfig(configJson, files.config);
    try {
      this.#library = createFor(definition, config);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new CheckpointError(`the tokenizer cannot be built: ${reason}`, { file: files.tokenizer }, { cause: error });
    }
    this.vocabularySize = countIds(definition);
    const endOfText = findEndOfText(this.#library, definition, config, files.config);
    if (endOfText !== undefined) this.endOfText = endOfText;
    const beginOfText = config.bos_token === undefined || config.bos_token === null ? undefined : this.#library.token_to_id(contentOf(config.bos_token));
    if (beginOfText !== undefined) this.beginOfText = beginOfText;
    const special = isDivisible(definition, config) ? specialIds(this.#library) : undefined;
    if (special !== undefined) this.encodeStream = () => dividedEncoder((text) => this.#encode(text, false), special);
    if (definition.decoder?.type === 'ByteLevel') this.tokenBytes = () => byteTable(definition);
  }

  /**
   * The ids of `text`, with the special tokens that the file adds to every text (GPT-NeoX adds none).
   * @throws ArgumentError where the vocabulary lacks a piece of the text and has no token for unknown pieces
   */
  encode(text: string): Int32Array {
    return this.#encode(text, true);
  }

  #encode(text: string, special: boolean): Int32Array {
    const { ids, tokens } = this.#library.encode(text, { add_special_tokens: special });
    const result = new Int32Array(ids.length);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (id === undefined) {
        const got = JSON.stringify(tokens[i]);
        const expected = 'text made of tokens of the vocabulary, which has no unknown token';
        throw new ArgumentError({ operation: 'encode', argument: 'a piece of text', expected, got });
      }
      result[i] = id;
    }
    return result;
  }

  /** The text of `ids`. @throws ArgumentError where an id is negative or not an integer */
  decode(ids: ArrayLike<number>): string {
    return this.#decodeKnown(Array.from(ids).filter((id) => this.#hasToken(id)));
  }

  stream(): TextStream {
    const known = incrementalDecoder((ids) => this.#decodeKnown(ids as number[]));
    return { push: (id) => (this.#hasToken(id) ? known.push(id) : ''), flush: () => known.flush() };
  }

  #decodeKnown(ids: number[]): string {
    // The library refuses an empty list.
    return ids.length === 0 ? '' : this.#library.decode(ids, { clean_up_tokenization_spaces: false });
  }

  #hasToken(id: number): boolean {
    if (!Number.isInteger(id) || id < 0) {
      const expected = 'an integer of at least 0';
      throw new ArgumentError({ operation: 'decode', argument: 'id', expected, got: String(id) });
    }
    return this.#library.id_to_token(id) !== undefined;
  }
}

/** The library takes a model of whole words for one of its own past, which has its unknown token from the config. */
function createFor(definition: TokenizerDefinition, config: TokenizerConfig): Library {
  const { model } = definition;
  if (model.type !== 'WordLevel') return new createLibrary(definition, config);
  const { type, vocab, unk_token } = model;
  return new createLibrary({ ...definition, model: { type, vocab } }, { ...config, unk_token, target_lang: undefined });
}

/** The ids that go before and after a whole text; undefined where they cannot be told from its own. */
function specialIds(library: Library): { before: Int32Array; after: Int32Array } | undefined {
  const [whole, bare] = [true, false].map((special) => library.encode('a', { add_special_tokens: special }));
  if (whole === undefined || bare === undefined || bare.tokens.length === 0) return undefined;
  const start = whole.tokens.findIndex((_, i) => bare.tokens.every((token, k) => whole.tokens[i + k] === token));
  if (start < 0) return undefined;
  const ids = (from: number, to?: number) => Int32Array.from(whole.ids.slice(from, to) as number[]);
  return { before: ids(0, start), after: ids(start + bare.tokens.length) };
}

/** One more than the largest id: ids need not be without gaps. */
function countIds({ model, added_tokens: added }: TokenizerDefinition): number {
  let largest = -1;
  if (model.type === 'Unigram') largest = model.vocab.length - 1;
  else for (const id of Object.values(model.vocab)) largest = Math.max(largest, id);
  for (const { id } of added) largest = Math.max(largest, id);
  return largest + 1;
}

/** The bytes of each id of a byte-level vocabulary. Added tokens are written as they are, and special ones are no text. */
function byteTable({ model, added_tokens: added }: TokenizerDefinition): (Uint8Array | undefined)[] {
  const table: (Uint8Array | undefined)[] = [];
  const vocabulary = model.type === 'Unigram' ? model.vocab.map(([token], id) => [token, id] as const) : Object.entries(model.vocab);
  for (const [token, id] of vocabulary) table[id] = bytesOfToken(token);
  for (const { id, content, ...token } of added) table[id] = token['special'] === true ? undefined : new TextEncoder().encode(content);
  return table;
}

function findEndOfText(
  library: Library,
  { added_tokens: added }: TokenizerDefinition,
  { eos_token: named }: TokenizerConfig,
  file: string,
): number | undefined {
  if (named === undefined || named === null) return added.find(({ content }) => content === usualEndOfText)?.id;
  const content = contentOf(named);
  const id = library.token_to_id(content);
  if (id !== undefined) return id;
  throw new CheckpointError(`the vocabulary has no token ${JSON.stringify(content)}`, { file, key: 'eos_token' });
}

const contentOf = (token: string | { readonly content: string }): string => (typeof token === 'string' ? token : token.content);
