/** JSON from files that nobody vouches for. */
import { CheckpointError } from '../util/errors.js';

/** Longer keys are refused: no parameter has such a name, and error messages repeat it. */
const maxKeyLength = 1000;
/**
 * Every value in a JSON text follows a brace, a bracket or a comma. Counting those bounds the number of values, and so
 * the memory: 100 MB of `{},` would otherwise become gigabytes. Half a million tensors stay below it.
 */
const maxSeparators = 1 << 22;

/** What a JSON text says, and the places of its keys. */
export interface JsonText<T = unknown> {
  readonly value: T;
  /** Position in the file of a top-level key, in bytes. */
  offsetOf(key: string): number;
}

export type JsonObject = JsonText<Readonly<Record<string, unknown>>>;

/** Settings of `parseJson`. */
export interface JsonOptions {
  /** Where the JSON starts in the file, in bytes (default 0). */
  offset?: number;
  /** Accept infinities and NaN in the two spellings Python programs write: `Infinity` and `{"__float__": "Infinity"}`. */
  pythonFloats?: boolean;
}

/**
 * Parses UTF-8 JSON.
 * @throws CheckpointError when it is not UTF-8, not JSON, has too many values, or has an object with a key twice
 */
export function parseJson(bytes: Uint8Array, file: string, options: JsonOptions = {}): JsonText {
  const { offset = 0, pythonFloats = false } = options;
  if (countSeparators(bytes) > maxSeparators) {
    throw new CheckpointError(`the JSON text has more than ${maxSeparators} values`, { file, offset });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CheckpointError('the JSON text is not valid UTF-8', { file, offset }, { cause: error });
  }
  let value: unknown;
  try {
    value = pythonFloats ? JSON.parse(withoutBareInfinities(text), reviveFloat) : JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CheckpointError(`the text is not valid JSON: ${reason}`, { file, offset }, { cause: error });
  }
  const byteOffset = (position: number) => offset + new TextEncoder().encode(text.slice(0, position)).length;
  for (const { key, position, repeated } of scanKeys(text)) {
    if (repeated) {
      throw new CheckpointError('the JSON object has this key twice; expected once', {
        file,
        key,
        offset: byteOffset(position),
      });
    }
    if (key.length > maxKeyLength) {
      throw new CheckpointError(
        `a JSON key is ${key.length} characters long; expected at most ${maxKeyLength}`,
        { file, key: `${key.slice(0, 60)}…`, offset: byteOffset(position) },
      );
    }
  }
  return {
    value,
    offsetOf(key) {
      for (const found of scanKeys(text)) if (found.depth === 1 && found.key === key) return byteOffset(found.position);
      return offset;
    },
  };
}

/**
 * Parses UTF-8 JSON whose top level is an object.
 * @throws CheckpointError as `parseJson`, and when it is no object
 */
export function parseJsonObject(bytes: Uint8Array, file: string, options: JsonOptions = {}): JsonObject {
  return expectObject(parseJson(bytes, file, options), file, options.offset);
}

/** The text, whose top level is an object. @throws CheckpointError when it is none */
export function expectObject(json: JsonText, file: string, offset = 0): JsonObject {
  const { value } = json;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return json as JsonObject;
  const got = Array.isArray(value) ? 'an array' : value === null ? 'null' : `a ${typeof value}`;
  throw new CheckpointError(`the JSON text is ${got}; expected an object`, { file, offset });
}

function countSeparators(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if (byte === 0x7b || byte === 0x5b || byte === 0x2c) count++;
  return count;
}

interface FoundKey {
  key: string;
  /** 1 for the keys of the outermost object. */
  depth: number;
  /** Index of the opening quote in the text. */
  position: number;
  /** Whether the same object already had this key. */
  repeated: boolean;
}

/**
 * Yields every key of a JSON text, in order. JSON.parse keeps the last of equal keys and says nothing, so a second
 * look is needed; as the text is known to be valid JSON, a string is a key exactly when a colon follows it.
 */
function* scanKeys(text: string): Generator<FoundKey> {
  /** Of each open object its keys so far; undefined for an open array. */
  const open: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(undefined);
    else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      let end = i + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
      let next = end + 1;
      while (isJsonSpace(text.charCodeAt(next))) next++;
      const keys = open.at(-1);
      if (text[next] === ':' && keys !== undefined) {
        // Decoded first: "a" and "\u0061" are the same key.
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        yield { key, depth: open.length, position: i, repeated: keys.has(key) };
        keys.add(key);
      }
      i = end;
    }
  }
}

function isJsonSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}

/** Writes `Infinity` outside strings as 1e999, which JSON allows and which reads as infinity. NaN has no such spelling. */
function withoutBareInfinities(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|Infinity/g, (token) => (token === 'Infinity' ? '1e999' : token));
}

function reviveFloat(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('__float__' in value)) return value;
  const float = value.__float__;
  return float === 'Infinity' || float === '-Infinity' || float === 'NaN' ? Number(float) : value;
}
