import { platform } from '#platform';
import { ArgumentError, describeProblem } from '../util/errors.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { TokenArray } from './tokens.js';

/**
 * The tokens of a UTF-8 text file, in the smallest array that holds the tokenizer's vocabulary.
 * @param path path (Node) or URL (browser)
 * @throws ArgumentError where the file cannot be read, is not UTF-8, or has no token
 */
export async function loadTextFile(path: string, tokenizer: Tokenizer): Promise<TokenArray> {
  const bytes = await platform.readFile(path).catch((cause: unknown) => {
    throw problem(path, 'unreadable', cause);
  });
  const tokens = tokenizer.encode(decodeUtf8(path, bytes));
  if (tokens.length === 0) throw problem(path, 'empty');
  if (tokenizer.vocabularySize <= 2 ** 8) return Uint8Array.from(tokens);
  if (tokenizer.vocabularySize <= 2 ** 16) return Uint16Array.from(tokens);
  return tokens;
}

function decodeUtf8(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw problem(path, 'not UTF-8', cause);
  }
}

function problem(path: string, got: string, cause?: unknown): ArgumentError {
  const reason = cause instanceof Error ? ` (${cause.message})` : '';
  const described = { operation: 'loadTextFile', argument: path, expected: 'a file of UTF-8 text', got: `${got}${reason}` };
  return new ArgumentError(describeProblem(described), { cause });
}
