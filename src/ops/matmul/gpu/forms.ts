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

function fewRowsForm({ m, n, k, batch }: Product): FewRows {
  // More threads an output where there are few outputs, as long as each has something to read.
  let lanes = 32;
  while (lanes < 128 && n * batch * lanes < 2 ** 18 && k >= 8 * lanes) lanes *= 2;
  return { rows: m === 1 ? 1 : m === 2 ? 2 : m <= 4 ? 4 : 8, lanes, ahead: k > 4 * lanes ? 2 : 1 };
}

/** From the largest to the smallest. */
const matrixTiles: readonly MatrixTile[] = [
  { rows: 128, columns: 256, depth: 32, subgroupRows: 64, subgroupColumns: 64, buffers: 1, groupRows: 8 },
  { rows: 128, columns: 128, depth: 32, subgroupRows: 64, subgroupColumns: 64, buffers: 2, groupRows: 8 },
  { rows: 64, columns: 64, depth: 32, subgroupRows: 32, subgroupColumns: 32, buffers: 2, groupRows: 8 },
  { rows: 32, columns: 64, depth: 32, subgroupRows: 16, subgroupColumns: 32, buffers: 1, groupRows: 8 },
];

/** The invocations of a subgroup, where they are known. */
export function subgroupSize({ subgroups }: GpuFeatures): number | null {
  return subgroups !== null && subgroups.smallest === subgroups.largest ? subgroups.largest : null;
}

export function gpuProduct(gpu: GpuFeatures, formed: FormedProduct): GpuWork {
  const product: Product = { ...formed, a: formed.a(4), b: formed.b(4) };
  const { m, n, batch } = product;
  const inOrder = product.a.along === 'depth' && product.b.along === 'depth' && product.b.threadsAlong === 'depth';
  if (m * n * batch > 0 && m <= mostFewRows && inOrder) return fewRowsProduct(gpu, product, fewRowsForm(product));
  const size = gpu.matrices ? subgroupSize(gpu) : null;
  if (size !== null && formed.halves) {
    const wide: Product = { ...formed, a: formed.a(8), b: formed.b(8) };
    const fits = matrixTiles.filter((tile) => matrixBytes(wide, tile) <= gpu.workgroupBytes);
    const chosen = fits.find((tile) => Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch >= busy / 2) ?? fits.at(-1);
    if (chosen) return matrixProduct(gpu, wide, chosen, splitsFor(wide, chosen, busy, 4 * chosen.depth), size);
  }
  const [large, medium, small, flat] = tiles as [Tile, Tile, Tile, Tile];
  const count = (tile: Tile) => Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch;
  const tile = m <= flat.rows ? flat : count(large) >= busy / 2 ? large : Math.min(m, n) > 32 ? medium : small;
  return tiledProduct(gpu, product, tile, splitsFor(product, tile, busy, 4 * tile.depth));
}
