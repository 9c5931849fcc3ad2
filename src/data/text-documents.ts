import { ArgumentError, CheckpointError, describeProblem } from '../util/errors.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { documentOf, type DocumentSource, type TokenDocument } from './documents.js';
import { hashBytes, hashSeed, lineNumberAt, openData, scanLines } from './line-scan.js';

/** How text files hold documents. */
export interface TextDocumentsOptions {
  readonly tokenizer: Tokenizer;
  /** A line that stands between documents, in files of plain text; without one a file is a document. */
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
 * tokenized when it is opened, whole. Where the tokenizer has a token that ends a document, each ends with it. Empty
 * documents are left out: nothing between two separators, an empty line of JSON lines.
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
    hash = hashBytes(new TextEncoder().encode(`${String(checksum)} ${String(ranges.length)} `), hash);
  }
  if (count === 0) {
    throw new ArgumentError(describeProblem({ operation, argument: paths.join(', '), expected: 'at least one document', got: 'empty' }));
  }
  return {
    count,
    fingerprint: `${String(count)} documents ${(hash >>> 0).toString(16)} ${String(tokenizer.vocabularySize)} ${textField}`,
    open: (index) => readDocument(fileOf(files, index), index, tokenizer, textField),
    close: () => Promise.resolve(),
  };
}

async function findDocuments(path: string, separator: Uint8Array | null): Promise<{ ranges: Float64Array; checksum: number }> {
  const file = await openData(operation, path);
  const ranges: number[] = [];
  const add = (start: number, end: number) => {
    if (end > start) ranges.push(start, end);
  };
  try {
    let checksum: number;
    if (isJsonLines(path)) {
      checksum = await scanLines(file, 1, (start, end, head) => {
        if (end - start > 1 || (head.length > 0 && head[0] !== carriageReturn)) add(start, end);
      });
    } else {
      let begin = 0;
      checksum = await scanLines(file, (separator?.length ?? 0) + 1, (start, end, head) => {
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

const carriageReturn = 13;

/** Whether a line is the separator, with or without the carriage return of a Windows line end. */
function isSeparator(head: Uint8Array, length: number, separator: Uint8Array): boolean {
  const extra = length - separator.length;
  if (extra !== 0 && !(extra === 1 && head[separator.length] === carriageReturn)) return false;
  return separator.every((byte, i) => byte === head[i]);
}

function checkedSeparator(separator: string | undefined): Uint8Array | null {
  if (separator === undefined) return null;
  if (separator !== '' && !/[\r\n]/.test(separator)) return new TextEncoder().encode(separator);
  const [argument, got] = ['separator', JSON.stringify(separator)];
  throw new ArgumentError(describeProblem({ operation, argument, expected: 'the text of one line', got }));
}

function fileOf(files: readonly TextFile[], index: number): TextFile {
  const found = files.findLast(({ first }) => first <= index);
  if (found !== undefined && (index - found.first) * 2 < found.ranges.length) return found;
  throw new ArgumentError(describeProblem({ operation, argument: 'index', expected: 'that of a document', got: String(index) }));
}

/** A document's file is opened for it alone: a corpus may have more files than a process may keep open. */
async function readDocument(from: TextFile, index: number, tokenizer: Tokenizer, textField: string): Promise<TokenDocument> {
  const { path, json, ranges, first } = from;
  const [start = 0, end = 0] = ranges.subarray(2 * (index - first));
  const file = await openData(operation, path);
  try {
    const fail = async (problem: string, cause?: unknown): Promise<never> => {
      const line = await lineNumberAt(file, start);
      throw new CheckpointError(`line ${String(line)} ${problem}`, { file: path, offset: start }, { cause });
    };
    if (end > file.sizeBytes) await fail('is beyond the end: the file has changed since it was opened');
    const bytes = await file.read(start, end - start);
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (cause) {
      return await fail(`${json ? 'is' : 'begins a document that is'} not UTF-8`, cause);
    }
    if (json) {
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch (cause) {
        return await fail(`is not JSON (${cause instanceof Error ? cause.message : String(cause)})`, cause);
      }
      const field = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[textField] : undefined;
      if (typeof field !== 'string') return await fail(`has no text under the key '${textField}'. Hint: --text-field names the key`);
      text = field;
    }
    return documentOf(withEnd(tokenizer.encode(text), tokenizer.endOfText));
  } finally {
    await file.close();
  }
}

function withEnd(tokens: Int32Array, endOfText: number | undefined): Int32Array {
  if (endOfText === undefined || tokens.length === 0 || tokens.at(-1) === endOfText) return tokens;
  const ended = new Int32Array(tokens.length + 1);
  ended.set(tokens);
  ended[tokens.length] = endOfText;
  return ended;
}
