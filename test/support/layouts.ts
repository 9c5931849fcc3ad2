/** Rows of documents, as models are given them. */

/** Documents of unequal length in one batch. */
export interface Layout {
  readonly shape: readonly [rows: number, length: number];
  readonly ids: Int32Array;
  /** 1 where a document begins. */
  readonly starts: Int32Array;
  /** The next id of the document; −1 for its last and where there is no document. */
  readonly targets: Int32Array;
  readonly documents: readonly Placed[];
}

interface Placed {
  readonly ids: Int32Array;
  /** Where its first id is among those of the layout. */
  readonly at: number;
}

/** All documents in one row, one after the other. */
export function packed(documents: readonly Int32Array[]): Layout {
  let at = 0;
  const placed = documents.map((ids) => ({ ids, at: (at += ids.length) - ids.length }));
  return layout([1, at], placed);
}

/** A document a row, at the row's end. What stands before it is `padding`. */
export function leftPadded(documents: readonly Int32Array[], padding: number): Layout {
  const length = Math.max(...documents.map((ids) => ids.length));
  const placed = documents.map((ids, row) => ({ ids, at: (row + 1) * length - ids.length }));
  return layout([documents.length, length], placed, padding);
}

function layout(shape: Layout['shape'], documents: readonly Placed[], padding = 0): Layout {
  const size = shape[0] * shape[1];
  const [all, starts, targets] = [new Int32Array(size).fill(padding), new Int32Array(size), new Int32Array(size).fill(-1)];
  for (const { ids, at } of documents) {
    all.set(ids, at);
    starts[at] = 1;
    targets.set(ids.subarray(1), at);
  }
  return { shape, ids: all, starts, targets, documents };
}
