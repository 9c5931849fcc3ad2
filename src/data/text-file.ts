import { ArgumentError } from '../util/errors.js';
import { utf8Hint } from '../util/utf8.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { openText } from './open-text.js';
import { encodeRange, TextError } from './text-pieces.js';
import type { TokenArray } from './tokens.js';

/**
 * The tokens of a UTF-8 text file, in the smallest array that holds the tokenizer's vocabulary. A byte-order mark is left out.
 * @param path path (Node) or URL (browser)
 * @param options.limit only the first tokens; no more of the file is read than they need, where the tokenizer encodes in pieces
 * @throws ArgumentError where the file cannot be read, is not UTF-8, has no token, or must be one string and is too long for it
 */
export async function loadTextFile(path: string, tokenizer: Tokenizer, { limit = Infinity }: { readonly limit?: number } = {}): Promise<TokenArray> {
  const operation = 'loadTextFile';
  const problem = (got: string, hint?: string, cause?: unknown) => {
    const described = { operation, argument: path, expected: 'a file of UTF-8 text', got, hint };
    return new ArgumentError(described, { cause });
  };
  const { file, start } = await openText(operation, path);
  try {
    const tokens = await encodeRange(file, start, file.sizeBytes, tokenizer, limit);
    if (tokens.length === 0) throw problem('empty');
    return tokens;
  } catch (error) {
    if (error instanceof TextError) throw problem(error.what, error.hint ?? utf8Hint, error);
    throw error;
  } finally {
    await file.close();
  }
}
