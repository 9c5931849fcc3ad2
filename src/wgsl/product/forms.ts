/** Which form a product takes. */
import { subgroupSize, usableBytes, type GpuFeatures, type GpuWork } from '../../tensor/index.js';
import { withConstants } from './constants.js';
import { deepProduct, isDeep } from './deep.js';
import type { Factor } from './factor.js';
import { fewRowsProduct, type FewRows } from './few-rows.js';
import { afterHalving } from './halved.js';
import { matrixBytes, matrixProduct, type MatrixTile } from './matrix.js';
import { busy, splitsFor, type Groups, type Product } from './product.js';
import { tiledProduct, type Tile } from './tiled.js';

/** A product whose factors may be read in vectors of up to 4 or 8 elements. */
export interface FormedProduct extends Omit<Product, 'a' | 'b'> {
  readonly a: (widest: 4 | 8) => Factor;
  readonly b: (widest: 4 | 8) => Factor;
  /** Whether both factors are halves, exactly or by rounding. */
  readonly halves: boolean;
  /** What `p` has of the kernel's; none are floats. */
  readonly parameters: Readonly<Record<string, number>>;
}

/** From the largest to the smallest. */
const tiles: readonly Tile[] = [
  { rows: 128, columns: 128, depth: 16, threadRows: 8, threadColumns: 8 },
  { rows: 64, columns: 64, depth: 16, threadRows: 8, threadColumns: 4 },
  { rows: 32, columns: 32, depth: 16, threadRows: 4, threadColumns: 4 },
  { rows: 8, columns: 64, depth: 32, threadRows: 4, threadColumns: 4 },
];

/** For a router's few columns, which are the depth of a gradient. */
const tall: Tile = { rows: 128, columns: 8, depth: 16, threadRows: 4, threadColumns: 4 };
const shallow: Tile = { rows: 128, columns: 64, depth: 8, threadRows: 8, threadColumns: 4 };

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
function matrixTile({ m, n, k, batch }: Product): MatrixTile {
  if (m <= 32) return tileOf(16, 64, 64, 16, 16);
  const square = tileOf(128, 128, 32, 64, 64);
  const count = Math.ceil(m / square.rows) * Math.ceil(n / square.columns) * batch;
  return m > 64 && n > 64 && (count >= 64 || k >= 4096) ? square : tileOf(64, 64, 32, 32, 32);
}

/** A product worth code and passes of its own. */
const large = ({ m, n, k, batch }: Product): boolean => batch * m * n * k >= 2 ** 33;

/** Whether extents and pitches are compiled in, 4 to 12 % faster on an H100: where those that inputs decide are few. */
const constantsPay = (product: Product): boolean => large(product) && product.m % 128 === 0 && product.k % 128 === 0;

/**
 * Factors in f32 are converted to halves on their way to workgroup memory, every time they are read; on an H100 that makes a product
 * 20 to 28 % slower. Converting them before moves 6 bytes an element.
 */
const halvingPays =
  (gpu: GpuFeatures, product: Product) =>
  (times: number, bytes: number): boolean =>
    large(product) && product.batch === 1 && times >= 1024 && bytes <= usableBytes(gpu);

/**
 * Parts of the depth for large tiles, in the least time by a model of an H100: `busy` workgroups at a time, at 1.1e12 operations a second
 * each, and parts that are written and read again at 1.5e12 bytes a second.
 */
function largeSplits(gpu: GpuFeatures, { m, n, k, batch }: Product, tile: MatrixTile): number {
  const count = Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch;
  const seconds = (splits: number) => {
    const depth = tile.depth * Math.ceil(k / tile.depth / splits);
    const moved = splits === 1 ? 0 : (2 * splits + 1) * 4 * batch * m * n;
    return (Math.ceil((count * splits) / busy) * 2 * tile.rows * tile.columns * depth) / 1.1e12 + moved / 1.5e12;
  };
  const room = usableBytes(gpu) / (4 * batch * m * n);
  const most = Math.max(1, Math.floor(Math.min(64, k / (4 * tile.depth), room)));
  return Array.from({ length: most }, (_, i) => i + 1).reduce((best, splits) => (seconds(splits) < seconds(best) ? splits : best), 1);
}

function tileFor({ m, n, k, batch }: Product): Tile {
  const [biggest, medium, small, flat] = tiles as [Tile, Tile, Tile, Tile];
  const count = (tile: Tile) => Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch;
  if (m > flat.rows && n <= tall.columns) return tall;
  if (k <= shallow.depth && count(shallow) >= busy) return shallow;
  return m <= flat.rows ? flat : count(biggest) >= busy / 2 ? biggest : Math.min(m, n) > 32 ? medium : small;
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
      const splits = chosen.rows === 128 ? largeSplits(gpu, wide, chosen) : splitsFor(wide, chosen, busy, 4 * chosen.depth);
      if (splits > 1 && isDeep(gpu, wide, size)) return deepProduct(wide, size);
      const work = afterHalving(wide, halvingPays(gpu, wide), (read) => matrixProduct(gpu, read, chosen, splits, size));
      return constantsPay(wide) ? withConstants(work, formed.parameters) : work;
    }
  }
  const tile = tileFor(product);
  // A workgroup of two subgroups is small, and its sums cost little.
  const splits = tile === tall ? splitsFor(product, tile, 2 * busy, 12 * tile.depth) : splitsFor(product, tile, busy, 4 * tile.depth);
  return tiledProduct(gpu, product, tile, splits);
}

/** A product of rows or depths in groups; see `Groups`. The first factor is read along its depth for rows, along its rows for depths. */
export function groupedGpuProduct(gpu: GpuFeatures, formed: FormedProduct & { readonly groups: Groups }): GpuWork {
  const { m, k, groups } = formed;
  const size = gpu.matrices ? subgroupSize(gpu) : null;
  // As if groups were of one length: they are, nearly, where experts are balanced.
  const even = { ...formed, a: formed.a(4), b: formed.b(4), ...(groups.of === 'rows' ? { m: Math.ceil(m / groups.count), batch: groups.count } : { k: Math.ceil(k / groups.count) }) };
  if (size !== null && formed.halves) {
    const wide: Product = { ...formed, a: formed.a(8), b: formed.b(8) };
    const tile = matrixTile(even);
    if (matrixBytes(wide, tile) <= gpu.workgroupBytes) {
      const product = (read: Product) => matrixProduct(gpu, read, tile, 1, size);
      const work = groups.of === 'rows' ? afterHalving(wide, halvingPays(gpu, wide), product) : product(wide);
      return constantsPay({ ...wide, batch: 1 }) ? withConstants(work, formed.parameters) : work;
    }
  }
  return tiledProduct(gpu, { ...formed, a: formed.a(4), b: formed.b(4) }, tileFor(even), 1);
}
