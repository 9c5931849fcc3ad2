import { loadTextFile } from '../data/index.js';
import { isJsonLines } from '../data/text-documents.js';
import { ByteTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { tokenStarts, type TokenStarts } from '../tokenizer/token-bytes.js';
import { ArgumentError } from '../util/errors.js';
import { utf8Length } from '../util/utf8.js';
import { openTexts, type DocumentOptions } from './training-data.js';

/** A piece of text that models read from its beginning. */
export interface TextWindow {
  readonly text: string;
  /** Of UTF-8. */
  readonly bytes: number;
}

/** A window as models of several tokenizers are measured on it. */
export interface ScoredWindow extends TextWindow {
  /** The first byte that counts: a token begins there, and not at the window's beginning, under every tokenizer. */
  readonly firstScored: number;
}

/**
 * Cuts texts into windows of at most `length` bytes, none across two documents or within a character.
 * @param limit how many bytes of the texts to read
 * @throws ArgumentError or CheckpointError, which name what is wrong with the files
 */
export async function readWindows(
  files: readonly string[],
  { length, limit, ...options }: DocumentOptions & { readonly length: number; readonly limit: number },
): Promise<TextWindow[]> {
  const tokenizer = new ByteTokenizer();
  const [file = ''] = files;
  if (files.length === 1 && options.documentSeparator === undefined && !isJsonLines(file)) {
    return cut(Uint8Array.from(await loadTextFile(file, tokenizer, { limit })), length);
  }
  const windows: TextWindow[] = [];
  const source = await openTexts(files, options, tokenizer);
  try {
    let left = limit;
    for (let i = 0; i < source.count && left > 0; i++) {
      const document = await source.open(i);
      const read = Math.min(left, document.length);
      windows.push(...cut(Uint8Array.from(await document.read(0, read)), length));
      left -= read;
    }
    return windows;
  } finally {
    await source.close();
  }
}

function cut(bytes: Uint8Array, length: number): TextWindow[] {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const windows: TextWindow[] = [];
  for (let at = 0; at < bytes.length; ) {
    const piece = bytes.subarray(at, at + length);
    const whole = utf8Length(piece);
    // What is left is a character that the limit cut.
    if (whole === 0) break;
    windows.push({ text: decoder.decode(piece.subarray(0, whole)), bytes: whole });
    at += whole;
  }
  return windows;
}

/**
 * Finds the bytes that all models are scored on: of each window from the first place on, after its beginning, where a token begins
 * under every tokenizer. Windows without such a place are left out.
 * @returns the windows, and which of the tokenizers do not spell the text as it is
 * @throws ArgumentError where there is none in any window
 */
export function scoredWindows(windows: readonly TextWindow[], tokenizers: readonly Tokenizer[]): { scored: ScoredWindow[]; inexact: ReadonlySet<Tokenizer> } {
  const inexact = new Set<Tokenizer>();
  const scored = windows.flatMap((window) => {
    const all = tokenizers.map((tokenizer) => {
      const { starts, exact } = tokenStarts(tokenizer, window.text, tokenizer.encode(window.text));
      if (!exact) inexact.add(tokenizer);
      return { starts, exact };
    });
    const firstScored = firstCommonStart(all);
    const counts = firstScored !== undefined && all.every(({ starts }) => starts.some((start, i) => i > 0 && start >= firstScored && start < window.bytes));
    return counts ? [{ ...window, firstScored }] : [];
  });
  if (scored.length > 0) return { scored, inexact };
  throw new ArgumentError({
    operation: 'compare',
    argument: 'the text',
    expected: 'at least two tokens under every tokenizer: the first is given, the others are predicted',
    got: 'too short',
  });
}

function firstCommonStart(all: readonly TokenStarts[]): number | undefined {
  // Places in proportion are not to the byte: they follow the others.
  const exact = all.filter((one) => one.exact);
  const [first, ...others] = (exact.length > 0 ? exact : all.slice(0, 1)).map(({ starts }) => starts);
  const sets = others.map((starts) => new Set(starts));
  return first?.find((start) => start > 0 && sets.every((set) => set.has(start)));
}
