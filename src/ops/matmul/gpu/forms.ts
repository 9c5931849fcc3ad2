/** Which form a product takes. */
import type { GpuFeatures, GpuWork } from '../../../tensor/index.js';
import type { Factor } from './factor.js';
import { fewRowsProduct, type FewRows } from './few-rows.js';
import { matrixBytes, matrixProduct, type MatrixTile } from './matrix.js';
import { splitsFor, type Product } from './product.js';
import { tiledProduct, type Tile } from './tiled.js';

/** A product whose factors may be read in vectors of up to 4 or 8 elements. */
export interface FormedProduct extends Omit<Product, 'a' | 'b'> {
  readonly a: (widest: 4 | 8) => Factor;
  readonly b: (widest: 4 | 8) => Factor;
  /** Whether both factors are halves, exactly or by rounding. */
  readonly halves: boolean;
}

/** From the largest to the smallest. */
const tiles: readonly Tile[] = [
  { rows: 128, columns: 128, depth: 16, threadRows: 8, threadColumns: 8 },
  { rows: 64, columns: 64, depth: 16, threadRows: 8, threadColumns: 4 },
  { rows: 32, columns: 32, depth: 16, threadRows: 4, threadColumns: 4 },
  { rows: 8, columns: 64, depth: 32, threadRows: 4, threadColumns: 4 },
];

/** Workgroups that keep a large GPU busy. */
const busy = 264;

/** Products of so few rows read the right factor at the speed of memory. */
export const mostFewRows = 32;

function fewRowsForm({ m, k }: Product): FewRows {
  // Many threads an output, as long as each has something to read.
  let lanes = 128;
  while (lanes > 32 && k < 4 * lanes) lanes /= 2;
  return { rows: m === 1 ? 1 : m === 2 ? 2 : m <= 4 ? 4 : 8, lanes, ahead: 1 };
}

const tileOf = (rows: number, columns: number, depth: number, subgroupRows: number, subgroupColumns: number): MatrixTile => ({
  ...{ rows, columns, depth, subgroupRows, subgroupColumns },
  groupRows: 8,
});

/** What was fastest on an H100 (bench/gpu/tune.mjs). */
function matrixTile({ m, n, k, batch, a, b }: Product): MatrixTile {
  if (m <= 32) return tileOf(16, 64, 64, 16, 16);
  // Reading the left factor along depth is the slow part: wide tiles read it less often.
  const wide = tileOf(128, 256, 32, 64, 64);
  const wideCount = Math.ceil(m / wide.rows) * Math.ceil(n / wide.columns) * batch;
  if (a.along === 'depth' && b.along === 'outer' && wideCount >= busy / 2) return wide;
  const large = tileOf(128, 128, 32, 64, 64);
  const count = Math.ceil(m / large.rows) * Math.ceil(n / large.columns) * batch;
  return m > 64 && n > 64 && (count >= 64 || k >= 4096) ? large : tileOf(64, 64, 32, 32, 32);
}

/** The invocations of a subgroup, where they are known. */
export function subgroupSize({ subgroups }: GpuFeatures): number | null {
  return subgroups !== null && subgroups.smallest === subgroups.largest ? subgroups.largest : null;
}

export function gpuProduct(gpu: GpuFeatures, formed: FormedProduct): GpuWork {
  const product: Product = { ...formed, a: formed.a(4), b: formed.b(4) };
  const { m, n, batch } = product;
  const size = gpu.matrices ? subgroupSize(gpu) : null;
  const inOrder = product.a.along === 'depth' && product.b.along === 'depth' && product.b.threadsAlong === 'depth';
  if (m * n * batch > 0 && m <= (size !== null && formed.halves ? 1 : mostFewRows) && inOrder) return fewRowsProduct(gpu, product, fewRowsForm(product));
  if (size !== null && formed.halves) {
    const wide: Product = { ...formed, a: formed.a(8), b: formed.b(8) };
    const chosen = matrixTile(wide);
    if (matrixBytes(wide, chosen) <= gpu.workgroupBytes) {
      return matrixProduct(gpu, wide, chosen, splitsFor(wide, chosen, busy, 4 * chosen.depth), size);
    }
  }
  const [large, medium, small, flat] = tiles as [Tile, Tile, Tile, Tile];
  const count = (tile: Tile) => Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch;
  const tile = m <= flat.rows ? flat : count(large) >= busy / 2 ? large : Math.min(m, n) > 32 ? medium : small;
  return tiledProduct(gpu, product, tile, splitsFor(product, tile, busy, 4 * tile.depth));
}
