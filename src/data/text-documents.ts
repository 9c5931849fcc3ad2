import { ArgumentError, CheckpointError } from '../util/errors.js';
import { describeByte, utf8Length } from '../util/utf8.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { documentOf, type DocumentSource, type TokenDocument } from './documents.js';
import { hashBytes, hashSeed, lineNumberAt, openData, scanLines } from './line-scan.js';
import { openText } from './open-text.js';
import { encodeRange, longestString, TextError, textPieces } from './text-pieces.js';
import type { TokenArray } from './tokens.js';

/** How text files hold documents. */
export interface TextDocumentsOptions {
  readonly tokenizer: Tokenizer;
  /** A line that stands between documents, blanks after it left aside, in files of plain text; without one a file is a document. */
  readonly separator?: string;
  /** The key of a document's text, in files of JSON lines. */
  readonly textField?: string;
}

interface TextFile {
  readonly path: string;
  readonly json: boolean;
  /** First byte and the byte after the last of each document, in turn. */
  readonly ranges: Float64Array;
  /** Number of documents in the files before this one. */
  readonly first: number;
}

const operation = 'openTextDocuments';

/** Whether a path names a file of JSON lines: one object a line. */
export const isJsonLines = (path: string): boolean => /\.(jsonl|ndjson)$/i.test(path);

/**
 * The documents of text files: of plain text (UTF-8), and of JSON lines where a name ends in .jsonl or .ndjson. The files
 * are gone through once, in pieces, to find where documents begin (16 bytes of memory a document); a document is read and
 * tokenized when it is opened. Where the tokenizer has a token that ends a document, each ends with it. Empty
 * documents are left out: nothing between two separators, an empty line of JSON lines; so is a byte-order mark at the beginning of a file.
 * @throws ArgumentError where a file cannot be read, an option is out of its range, or there is no document
 */
export async function openTextDocuments(paths: readonly string[], options: TextDocumentsOptions): Promise<DocumentSource> {
  const { tokenizer, textField = 'text' } = options;
  const separator = checkedSeparator(options.separator);
  const files: TextFile[] = [];
  let count = 0;
  let hash = hashSeed;
  for (const path of paths) {
    const { ranges, checksum } = await findDocuments(path, separator);
    files.push({ path, json: isJsonLines(path), ranges, first: count });
    count += ranges.length / 2;
    hash = hashBytes(new TextEncoder().encode(`${checksum} ${ranges.length} `), hash);
  }
  if (count === 0) {
    throw new ArgumentError({ operation, argument: paths.join(', '), expected: 'at least one document', got: 'empty' });
  }
  return {
    count,
    fingerprint: `${count} documents ${(hash >>> 0).toString(16)} ${tokenizer.vocabularySize} ${textField}`,
    open: (index) => readDocument(fileOf(files, index), index, tokenizer, textField),
    close: () => Promise.resolve(),
  };
}

async function findDocuments(path: string, separator: Uint8Array | null): Promise<{ ranges: Float64Array; checksum: number }> {
  const { file, start: textStart } = await openText(operation, path);
  const ranges: number[] = [];
  const add = (start: number, end: number) => {
    if (end > start) ranges.push(start, end);
  };
  try {
    let checksum: number;
    if (isJsonLines(path)) {
      checksum = await scanLines(file, textStart, mostBlanks, (start, end, head) => {
        if (end - start > mostBlanks || !isBlank(head)) add(start, end);
      });
    } else {
      let begin = textStart;
      checksum = await scanLines(file, textStart, (separator?.length ?? 0) + mostBlanks, (start, end, head) => {
        if (separator === null || !isSeparator(head, end - start, separator)) return;
        add(begin, start);
        begin = Math.min(file.sizeBytes, end + 1);
      });
      add(begin, file.sizeBytes);
    }
    return { ranges: Float64Array.from(ranges), checksum };
  } finally {
    await file.close();
  }
}

/** Blanks at the end of a line are looked for this far. */
const mostBlanks = 256;

/** Space, tab and the carriage return of a Windows line end. */
const isBlank = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 32 || byte === 9 || byte === 13);

/** Whether a line is the separator, with or without blanks after it. */
function isSeparator(head: Uint8Array, length: number, separator: Uint8Array): boolean {
  if (length < separator.length || length > head.length) return false;
  return separator.every((byte, i) => byte === head[i]) && isBlank(head.subarray(separator.length));
}

function checkedSeparator(separator: string | undefined): Uint8Array | null {
  if (separator === undefined) return null;
  const line = separator.trimEnd();
  if (line !== '' && !/[\r\n]/.test(line)) return new TextEncoder().encode(line);
  const [argument, got] = ['separator', JSON.stringify(separator)];
  throw new ArgumentError({ operation, argument, expected: 'the text of one line', got });
}

function fileOf(files: readonly TextFile[], index: number): TextFile {
  const found = files.findLast(({ first }) => first <= index);
  if (found !== undefined && (index - found.first) * 2 < found.ranges.length) return found;
  throw new ArgumentError({ operation, argument: 'index', expected: 'that of a document', got: String(index) });
}

/** A document's file is opened for it alone: a corpus may have more files than a process may keep open. */
async function readDocument(from: TextFile, index: number, tokenizer: Tokenizer, textField: string): Promise<TokenDocument> {
  const { path, json, ranges, first } = from;
  const [start = 0, end = 0] = ranges.subarray(2 * (index - first));
  const file = await openData(operation, path);
  try {
    if (end > file.sizeBytes) throw new LineError('is beyond the end: the file has changed since it was opened');
    const tokens = json ? tokenizer.encode(await readField(file, start, end, textField)) : await encodeRange(file, start, end, tokenizer);
    return documentOf(withEnd(tokens, tokenizer.endOfText));
  } catch (error) {
    throw await documentError(error, file, { path, json, start });
  } finally {
    await file.close();
  }
}

/**
 * The texts of documents, one after another, in pieces that never end within a character: none needs to fit memory but a line of JSON.
 * @returns for each document its pieces
 * @throws ArgumentError or CheckpointError as `openTextDocuments` and its documents do
 */
export async function* documentTexts(
  paths: readonly string[],
  { separator, textField = 'text' }: Omit<TextDocumentsOptions, 'tokenizer'>,
): AsyncGenerator<AsyncIterable<string>, void, void> {
  for (const path of paths) {
    const { ranges } = await findDocuments(path, checkedSeparator(separator));
    const json = isJsonLines(path);
    const file = await openData(operation, path);
    try {
      for (let i = 0; i < ranges.length; i += 2) {
        const [start = 0, end = 0] = ranges.subarray(i);
        yield piecesOf(file, { path, json, start, end, textField });
      }
    } finally {
      await file.close();
    }
  }
}

async function* piecesOf(
  file: DataFile,
  { path, json, start, end, textField }: { readonly path: string; readonly json: boolean; readonly start: number; readonly end: number; readonly textField: string },
): AsyncGenerator<string, void, void> {
  try {
    if (json) yield await readField(file, start, end, textField);
    else yield* textPieces(file, start, end);
  } catch (error) {
    throw await documentError(error, file, { path, json, start });
  }
}

type DataFile = Awaited<ReturnType<typeof openData>>;

/** The error of a document that begins at byte `start`, with its place; another error as it is. */
async function documentError(cause: unknown, file: DataFile, { path, json, start }: { readonly path: string; readonly json: boolean; readonly start: number }): Promise<unknown> {
  const at = async (problem: string, offset = start) => new CheckpointError(`line ${await lineNumberAt(file, start)} ${problem}`, { file: path, offset }, { cause });
  if (cause instanceof LineError) return at(cause.message);
  if (!(cause instanceof TextError)) return cause;
  const hint = cause.hint === undefined ? '' : `. Hint: ${cause.hint}`;
  return at(`${json ? 'is' : 'begins a document that is'} ${cause.what}${hint}`, cause.offset);
}

/** What is wrong with a line of JSON lines. */
class LineError extends Error {}

/** The text of the line of JSON in bytes [start, end). */
async function readField(file: DataFile, start: number, end: number, textField: string): Promise<string> {
  if (end - start > longestString) throw new LineError(`has ${end - start} bytes. Hint: is it JSON lines, with one document a line?`);
  const bytes = await file.read(start, end - start);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    const whole = utf8Length(bytes);
    if (whole < bytes.length) throw new TextError(`not UTF-8 (${describeByte(start + whole, bytes[whole])})`, start + whole, undefined, { cause });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LineError(`is not JSON (${reason}). Hint: every line of .jsonl is a JSON object`, { cause });
  }
  const record = typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  const field = record?.[textField];
  if (typeof field !== 'string') throw new LineError(`has no text under the key '${textField}'. Hint: ${fieldHint(record)}`);
  return field;
}

function fieldHint(record: Record<string, unknown> | undefined): string {
  if (record === undefined) return 'every line of .jsonl is a JSON object';
  const keys = Object.keys(record);
  const texts = keys.filter((key) => typeof record[key] === 'string');
  if (texts.length === 0) return `none of its keys (${keys.slice(0, 8).join(', ')}) holds text`;
  return `--text-field names the key; there is text under ${texts.slice(0, 8).join(', ')}`;
}

function withEnd<T extends TokenArray>(tokens: T, endOfText: number | undefined): T {
  if (endOfText === undefined || tokens.length === 0 || tokens.at(-1) === endOfText) return tokens;
  const ended = new (tokens.constructor as new (length: number) => T)(tokens.length + 1);
  ended.set(tokens);
  ended[tokens.length] = endOfText;
  return ended;
}
