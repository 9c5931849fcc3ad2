import type { Tokenizer } from '../tokenizer/index.js';
import { ArgumentError } from '../util/errors.js';
import type { ScoreRequest } from './item.js';

/** A request as ids. */
export interface EncodedRequest {
  /** Context, then continuation. */
  readonly ids: Int32Array;
  /** How many ids are the continuation's: the last ones. */
  readonly continuationTokens: number;
}

/** Blanks at the end of a text, as Python's `str.rstrip` has them. */
const blanksAtEnd = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/;

/**
 * Encodes a request as lm-evaluation-harness does. Blanks at the end of the context go to the continuation. Both are encoded together, and
 * the continuation has the ids after as many as the context alone has. A context of no tokens is the id that begins a text, or else ends one.
 * @throws ArgumentError where the continuation has no ids, or there is neither context nor such an id
 */
export function encodeRequest(tokenizer: Tokenizer, { context, continuation }: ScoreRequest): EncodedRequest {
  const kept = context.replace(blanksAtEnd, '');
  const before = tokenizer.encode(kept);
  const after = tokenizer.encode(context + continuation).subarray(before.length);
  const fail = (argument: string, expected: string, got: string, hint?: string) => new ArgumentError({ operation: 'encodeRequest', argument, expected, got, hint });
  if (after.length === 0) throw fail('continuation', 'a text that adds tokens to its context', JSON.stringify(continuation));
  const start = before.length === 0 ? prefixOf(tokenizer, fail) : before;
  const ids = new Int32Array(start.length + after.length);
  ids.set(start);
  ids.set(after, start.length);
  return { ids, continuationTokens: after.length };
}

function prefixOf({ beginOfText, endOfText }: Tokenizer, fail: (argument: string, expected: string, got: string, hint?: string) => ArgumentError): number[] {
  const id = beginOfText ?? endOfText;
  if (id !== undefined) return [id];
  throw fail('context', 'at least one token', 'empty', 'the tokenizer has no id that begins or ends a text, to stand in its place');
}
