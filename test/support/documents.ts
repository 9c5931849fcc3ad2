import type { DocumentSource, TokenDocument } from '../../src/data/index.js';
import { Random } from '../../src/util/random.js';

/** Documents in memory that count what is read of them. */
export class MemoryDocuments implements DocumentSource {
  readonly fingerprint: string;
  /** Tokens read, by document. */
  readonly reads: number[];
  opened = 0;

  constructor(readonly documents: readonly Int32Array[]) {
    this.fingerprint = documents.map((document) => document.join()).join(';');
    this.reads = documents.map(() => 0);
  }

  get count(): number {
    return this.documents.length;
  }

  open(index: number): Promise<TokenDocument> {
    this.opened++;
    const tokens = this.documents[index];
    if (tokens === undefined) throw new Error(`no document ${index}`);
    return Promise.resolve({
      length: tokens.length,
      read: (from, to) => {
        if (!(from >= 0 && from <= to && to <= tokens.length)) throw new Error(`read [${from}, ${to})`);
        this.reads[index] = (this.reads[index] ?? 0) + to - from;
        return Promise.resolve(tokens.slice(from, to));
      },
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Random documents of the given lengths. */
export function randomDocuments(lengths: readonly number[], vocabularySize = 29, seed = 11): Int32Array[] {
  const random = new Random(seed);
  return lengths.map((length) => Int32Array.from({ length }, () => random.integer(vocabularySize)));
}
