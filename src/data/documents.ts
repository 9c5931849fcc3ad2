import { ArgumentError } from '../util/errors.js';

/** One document's tokens. */
export interface TokenDocument {
  /** Number of tokens. */
  readonly length: number;
  /** Tokens [from, to), 0 ≤ from ≤ to ≤ length. */
  read(from: number, to: number): Promise<ArrayLike<number>>;
}

/** Documents of tokens on disk, read when they are asked for: what is in memory is where each begins, not the documents. */
export interface DocumentSource {
  /** Number of documents. */
  readonly count: number;
  /** A text that changes when the tokens do. */
  readonly fingerprint: string;
  /**
   * Opens document `index`, in [0, count).
   * @throws CheckpointError naming the file and the place where the document is damaged
   */
  open(index: number): Promise<TokenDocument>;
  /** Closes the files. */
  close(): Promise<void>;
}

/** Documents for language modelling: those to train on and those held out. */
export interface DocumentDataset {
  readonly training: DocumentSource;
  readonly validation: DocumentSource;
}

/**
 * Holds out every n-th document, n = 1/`validationShare` rounded (at least 2, at most the number of documents), so that
 * what is held out comes from everywhere in the source. Both parts read through `source`; closing either closes it.
 * @param validationShare in [0, 1); the default holds out a tenth, 0 none
 * @throws ArgumentError where the share is out of its range, or there are fewer than two documents to divide
 */
export function splitDocuments(source: DocumentSource, validationShare = 0.1): DocumentDataset {
  const operation = 'splitDocuments';
  const hint = 'a file of its own can be held out instead (--validation).';
  if (!(validationShare >= 0 && validationShare < 1)) {
    const [argument, got] = ['validationShare', String(validationShare)];
    throw new ArgumentError({ operation, argument, expected: 'a number in [0, 1)', got, hint });
  }
  const { count } = source;
  if (validationShare === 0) return { training: source, validation: subset(source, 0, 'none', () => -1) };
  if (count < 2) {
    const [argument, got] = ['the text', `${count} document${count === 1 ? '' : 's'}`];
    const ways = `documents are files, lines of .jsonl, or what lies between lines of --document-separator; or ${hint}`;
    throw new ArgumentError({ operation, argument, expected: 'at least 2 documents', got, hint: ways });
  }
  const n = Math.min(count, Math.max(2, Math.round(1 / validationShare)));
  const held = Math.floor(count / n);
  return {
    training: subset(source, count - held, `not ${n}th`, (i) => i + Math.floor(i / (n - 1))),
    validation: subset(source, held, `${n}th`, (i) => i * n + n - 1),
  };
}

function subset(source: DocumentSource, count: number, which: string, indexOf: (i: number) => number): DocumentSource {
  return {
    count,
    fingerprint: `${source.fingerprint} ${which}`,
    open: (i) => source.open(indexOf(i)),
    close: () => source.close(),
  };
}

/** A document of tokens in memory. */
export function documentOf(tokens: Int32Array | Uint8Array | Uint16Array): TokenDocument {
  return { length: tokens.length, read: (from, to) => Promise.resolve(tokens.subarray(from, to)) };
}
