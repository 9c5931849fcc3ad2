/** Tables that are larger than what a dispatch can use: it takes a dispatch for each range of rows. */
import { usableBytes, type GpuBinding, type GpuFeatures } from '../tensor/index.js';

/** `count` rows from `first` on, and which part of the buffer they are; undefined where it is all of it. */
export interface RowRange {
  readonly first: number;
  readonly count: number;
  readonly part: GpuBinding['part'];
}

/**
 * The ranges of a table, one at least.
 * @param pitch items from row to row
 * @param width items of a row
 */
export function rangesOfRows(
  gpu: GpuFeatures,
  table: { readonly rows: number; readonly pitch: number; readonly width: number; readonly itemBytes: number },
): RowRange[] {
  const { rows, pitch, width, itemBytes } = table;
  const most = Math.max(1, Math.floor(usableBytes(gpu) / Math.max(1, pitch * itemBytes)));
  if (rows <= most) return [{ first: 0, count: rows, part: undefined }];
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const first = i * most;
    const count = Math.min(most, rows - first);
    return { first, count, part: { first: first * pitch, size: (count - 1) * pitch + width } };
  });
}
