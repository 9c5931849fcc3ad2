/** What a product's dispatches follow from, and the parts that all forms share. */
import { fold, type GpuDispatch, type GpuWork } from '../../tensor/index.js';
import type { Factor } from './factor.js';
import { addParts, storeParts, storeResult, type Result, type Store } from './result.js';

/** `batch` products of m×k by k×n. Kernels have p.m, p.n and p.k. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  /** WGSL names a factor as its binding does. */
  readonly a: Factor;
  readonly b: Factor;
  readonly result: Result;
  /** Rows or depths in groups, each with a matrix of its own of what the others have by `batch`; `batch` is 1, or for depths their number. */
  readonly groups?: Groups;
}

/**
 * Where groups begin is known to the device alone: `offsets` [groups + 1] i32, in a buffer of that name. Code has `group_end`, the row or depth
 * after the last of its group, for factors and result to end there. Rows of no group are the last ones; their sums are 0.
 */
export interface Groups {
  readonly of: 'rows' | 'depth';
  readonly count: number;
}

/** WGSL of the variable of a product in groups. */
export const groupEnd = 'group_end';

/** Workgroups that keep a large GPU busy. */
export const busy = 264;

/** A part of the result that a workgroup makes, and how deep it goes at a time. */
export interface Extents {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
}

/**
 * Dispatches of workgroups that each make one tile of one part of the sums. `code` gets the prologue, which declares split,
 * batch, first_row, first_column, begin and end (the depths of this workgroup), and returns where there is nothing to do.
 */
export function tileDispatches(
  product: Product,
  tile: Extents,
  options: { splits: number; variant: string; mostWork: number; groupRows: number; code: (prologue: string, store: Store) => string },
): GpuWork {
  const { m, n, k, batch, a, b, result, groups } = product;
  const { splits: wanted, variant, mostWork, groupRows, code } = options;
  const splitDepth = tile.depth * Math.max(1, Math.ceil(k / tile.depth / wanted));
  const splits = Math.max(1, Math.ceil(k / splitDepth));
  const stored = splits === 1 ? storeResult(result) : storeParts;
  // WebGPU wants room for a whole matrix wherever one might be stored.
  const store = m < tile.rows || n < tile.columns ? { ...stored, variant: `${stored.variant} edge`, whole: null } : stored;
  // A group's last tile may have few rows.
  const tilesM = Math.ceil(m / tile.rows) + (groups?.of === 'rows' ? groups.count : 0);
  const tilesN = Math.ceil(n / tile.columns);
  const count = tilesM * tilesN * batch * splits;
  // A dispatch that takes seconds is taken for a hanging one: long products go in parts.
  const most = Math.max(1, Math.floor(mostWork / (tile.rows * tile.columns * Math.max(1, Math.min(k, splitDepth)))));
  const dispatches: GpuDispatch[] = [];
  for (let first = 0; first < count; first += most) {
    const workgroups = Math.min(most, count - first);
    dispatches.push({
      variant: `${variant} ${a.variant} ${b.variant} ${store.variant}${groups === undefined ? '' : ` groups of ${groups.of}`}`,
      buffers: [a.binding, b.binding, ...(groups === undefined ? [] : ['offsets']), ...store.buffers],
      workgroups: fold(workgroups),
      numbers: { tilesM, tilesN, batches: batch, splitDepth, first, end: first + workgroups },
      code: () => (groups === undefined ? code(prologue(tile, groupRows, splits), store) : `var<private> ${groupEnd}: u32; ${code(groupPrologue[groups.of](tile, groupRows), store)}`),
    });
  }
  if (splits === 1) return { dispatches };
  dispatches.push(addParts(result, product, splits));
  return { dispatches, scratch: { parts: { dtype: 'f32', size: splits * batch * m * n } } };
}

/** Tiles go in groups of some rows of them, so that those at work together share what they read. */
const prologue = ({ rows, columns }: Extents, groupRows: number, splits: number) => `
    let flat = flat_workgroup(workgroup, workgroups) + p.first;
    if (flat >= p.end) { return; }
    let tile = flat % (p.tilesM * p.tilesN);
    let batch = flat / (p.tilesM * p.tilesN) % p.batches;
    let split = ${splits === 1 ? '0u' : 'flat / (p.tilesM * p.tilesN) / p.batches'};
    let group = tile / (${groupRows}u * p.tilesN);
    let group_rows = min(${groupRows}u, p.tilesM - group * ${groupRows}u);
    let in_group = tile - group * ${groupRows}u * p.tilesN;
    let first_row = (group * ${groupRows}u + in_group % group_rows) * ${rows}u;
    let first_column = in_group / group_rows * ${columns}u;
    let begin = ${splits === 1 ? '0u' : 'split * p.splitDepth'};
    let end = ${splits === 1 ? 'p.k' : 'min(p.k, begin + p.splitDepth)'};`;

const offset = (i: string) => `u32(offsets[p.offsets_at + ${i}])`;

/** The same for groups, with `p.groups` of them. */
const groupPrologue = {
  rows: ({ rows, columns }: Extents, groupRows: number) => `
    let flat = flat_workgroup(workgroup, workgroups) + p.first;
    if (flat >= p.end) { return; }
    let split = 0u;
    let strip = flat / (${groupRows}u * p.tilesN);
    let strip_rows = min(${groupRows}u, p.tilesM - strip * ${groupRows}u);
    let in_strip = flat - strip * ${groupRows}u * p.tilesN;
    let first_column = in_strip / strip_rows * ${columns}u;
    // The tile's number within its group, which is the last where rows have none.
    var nth = strip * ${groupRows}u + in_strip % strip_rows;
    var own = 0u;
    var start = 0u;
    var stop = 0u;
    for (; own <= p.groups; own++) {
      start = ${offset('own')};
      stop = p.rows;
      if (own < p.groups) { stop = ${offset('own + 1u')}; }
      let tiles = (stop - start + ${rows - 1}u) / ${rows}u;
      if (nth < tiles) { break; }
      nth -= tiles;
    }
    if (own > p.groups) { return; }
    ${groupEnd} = stop;
    let first_row = start + nth * ${rows}u;
    let begin = 0u;
    let end = select(p.k, 0u, own == p.groups);
    let batch = min(own, p.groups - 1u);`,
  depth: ({ rows, columns }: Extents, groupRows: number) => `
    ${prologue({ rows, columns, depth: 0 }, groupRows, 1).replace(/let begin[^]*$/, '')}
    let begin = ${offset('batch')};
    let end = ${offset('batch + 1u')};
    ${groupEnd} = end;`,
} as const;

/** Parts of the sums so that about `workgroups` of them are at work, none shorter than `leastDepth`. */
export function splitsFor({ m, n, k, batch }: Product, tile: Extents, workgroups: number, leastDepth: number): number {
  const tiles = Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns) * batch;
  return Math.max(1, Math.min(Math.floor(workgroups / tiles), Math.floor(k / leastDepth), 64));
}

/** 0, 1, …, count − 1, for code that is written out. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
