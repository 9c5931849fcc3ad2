/** What attention's reference kernels share: which keys a query sees, and where they are. */

/** Positions of a page. The kernels' tiles of keys are as long, so that no tile lies in two pages. */
export const pageLength = 64;

/** Numbers of a head at most: what the kernels' tiles have room for. */
export const largestSize = 256;

/** The sizes of a launch. */
export interface AttentionSizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: number;
  readonly pagesPerRow: number;
  readonly window: number;
}

export function forEachQuery({ batch, length, heads }: AttentionSizes, body: (b: number, t: number, h: number) => void): void {
  for (let b = 0; b < batch; b++) for (let t = 0; t < length; t++) for (let h = 0; h < heads; h++) body(b, t, h);
}

/** The positions of the keys that query t sees. */
export function seenKeys(
  { length, window }: Pick<AttentionSizes, 'length' | 'window'>,
  { positions, begins }: { readonly positions: Int32Array | null; readonly begins: Int32Array | null },
  b: number,
  t: number,
): number[] {
  const own = (positions?.[b] ?? 0) + t;
  const first = Math.max(begins?.[b * length + t] ?? 0, window > 0 ? own - window + 1 : 0, 0);
  return Array.from({ length: own - first + 1 }, (_, i) => first + i);
}

/** The row of k and v, in heads, that holds position j of sequence b for head h. */
export function keyRow(
  { length, heads, kvHeads, pagesPerRow }: Pick<AttentionSizes, 'length' | 'heads' | 'kvHeads' | 'pagesPerRow'>,
  pages: Int32Array | null,
  b: number,
  j: number,
  h: number,
): number {
  const head = Math.floor((h * kvHeads) / heads);
  if (pages === null) return (b * length + j) * kvHeads + head;
  const page = pages[b * pagesPerRow + Math.floor(j / pageLength)] ?? NaN;
  return (page * pageLength + (j % pageLength)) * kvHeads + head;
}
