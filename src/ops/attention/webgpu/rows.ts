/**
 * Attention on any GPU: rows (queries, or keys) lie in the registers of invocations, what they meet comes in tiles through workgroup memory.
 * Everything is float32.
 */
import { fold, type GpuBinding, type GpuDispatch, type GpuFeatures } from '../../../tensor/index.js';
import { teamSum } from '../../../wgsl/rows.js';
import { repeat } from '../../../wgsl/vectors.js';
import { pageLength } from '../reference.js';
import { mostWork } from './places.js';

/** How rows lie in registers. */
export interface RowGeometry {
  /** Neighbouring invocations that share a row, a power of two, and the vectors of four of each. Vector i of a share is number i·sharers + share. */
  readonly sharers: number;
  readonly own: number;
  readonly threads: number;
  /** Rows of a workgroup. */
  readonly rows: number;
  /** Rows of a tile in workgroup memory, a multiple of 4; none lies in two pages. */
  readonly tile: number;
}

/** Vectors of an invocation at most: with more, several arrays of them would not fit its registers. */
const mostVectors = 8;
/** Bytes of the two tiles: what the smallest GPUs have is 16 KiB, and sums take some. */
const tileBytes = 8192;

export function rowGeometry(size: number): RowGeometry {
  const vectors = Math.ceil(size / 4);
  const sharers = 2 ** Math.ceil(Math.log2(Math.max(1, vectors / mostVectors)));
  const own = Math.ceil(vectors / sharers);
  const threads = 128;
  const tile = Math.min(pageLength, Math.max(4, 2 ** Math.floor(Math.log2(tileBytes / (2 * 16 * own * sharers)))));
  return { sharers, own, threads, rows: threads / sharers, tile };
}

/** Statements for each of an invocation's vectors. */
export const eachOwn = ({ own }: RowGeometry, statement: (i: number) => string): string => repeat(own, statement);

/** WGSL of the number of an invocation's vector i within its row. */
export const vectorAt = ({ sharers }: RowGeometry, i: number): string => `${i * sharers}u + share`;

/** Statements that declare `name`, a vec4 of the products of a row in registers, `<row>_<i>`, with rows `first` … `first` + 3 of a tile. */
export function products(geometry: RowGeometry, name: string, row: string, tile: string, first: string): string {
  const pitch = geometry.own * geometry.sharers;
  const one = Array.from({ length: geometry.own }, (_, i) => `dot(${row}_${i}, ${tile}[at + ${vectorAt(geometry, i)}])`).join(' + ');
  return `
        var ${name} = vec4<f32>();
        for (var n = 0u; n < 4u; n++) { let at = (${first} + n) * ${pitch}u; ${name}[n] = ${one}; }
        ${name} = sum4(thread, ${name});`;
}

/** Statements that add to rows in registers the rows of tiles, times weights (vec4), one of them at a time and only where `some` weight is not 0. */
export function addRows(
  geometry: RowGeometry,
  some: string,
  first: string,
  added: readonly { readonly to: string; readonly weights: string; readonly tile: string }[],
): string {
  const pitch = geometry.own * geometry.sharers;
  const one = added.map(({ to, weights, tile }) => eachOwn(geometry, (i) => `${to}_${i} += ${weights}[n] * ${tile}[at + ${vectorAt(geometry, i)}];`)).join(' ');
  return `
        for (var n = 0u; n < 4u; n++) {
          if (${some}[n] != 0.0) { let at = (${first} + n) * ${pitch}u; ${one} }
        }`;
}

/**
 * Dispatches of a workgroup for each tile of rows of each of `groups` (a sequence and a head of keys), those that are named last first.
 * `body` has `group`, `tile`, `thread`, `share` and `row_in_tile`.
 * @param work multiplications of a workgroup
 */
export function rowDispatches(options: {
  gpu: GpuFeatures;
  geometry: RowGeometry;
  variant: string;
  groups: number;
  rows: number;
  work: number;
  /** Whether the last tiles go first: the longest, where a row sees all before it. */
  lastFirst: boolean;
  buffers: readonly (string | GpuBinding)[];
  functions: string;
  /** Numbers in workgroup memory for each row of a tile, beside its vectors. */
  perTileRow?: Readonly<Record<string, string>>;
  tiles: readonly [string, string];
  body: string;
}): GpuDispatch[] {
  const { gpu, geometry, variant, groups, rows, work, lastFirst, buffers, functions, perTileRow = {}, tiles, body } = options;
  const { sharers, own, threads, tile } = geometry;
  const tileCount = Math.ceil(rows / geometry.rows);
  const count = tileCount * groups;
  const most = Math.max(1, Math.floor(mostWork / Math.max(1, work)));
  return Array.from({ length: Math.ceil(count / most) }, (_, i) => {
    const [first, end] = [i * most, Math.min(count, (i + 1) * most)];
    return {
      variant: `${variant} ${sharers}x${own} ${tile}`,
      buffers,
      numbers: { first, end, groups, tileCount },
      workgroups: fold(end - first),
      code: () => `
  ${functions}
  ${teamSum(gpu, 'sum4', sharers, threads, 'vec4<f32>')}
  ${tiles.map((name) => `var<workgroup> ${name}: array<vec4<f32>, ${tile * own * sharers}>;`).join('\n  ')}
  ${Object.entries(perTileRow).map(([name, type]) => `var<workgroup> ${name}: array<${type}, ${tile}>;`).join('\n  ')}
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count) + p.first;
    if (flat >= p.end) { return; }
    let group = flat % p.groups;
    let tile = ${lastFirst ? 'p.tileCount - 1u - flat / p.groups' : 'flat / p.groups'};
    let share = thread % ${sharers}u;
    let row_in_tile = thread / ${sharers}u;
    ${body}
  }`,
    };
  });
}

/** Statements that fill tiles: `load` is WGSL of a vector, from `r`, the row of the tile, and `c`, the vector's number. */
export function fillTiles({ own, sharers, threads, tile }: RowGeometry, loads: Readonly<Record<string, string>>, declare: string, present: string): string {
  const pitch = own * sharers;
  return `
      for (var at = thread; at < ${tile * pitch}u; at += ${threads}u) {
        let r = at / ${pitch}u;
        let c = at % ${pitch}u;
        ${declare}
        ${Object.keys(loads).map((name) => `var for_${name} = vec4<f32>();`).join(' ')}
        if (${present}) { ${Object.entries(loads).map(([name, load]) => `for_${name} = ${load};`).join(' ')} }
        ${Object.keys(loads).map((name) => `${name}[at] = for_${name};`).join(' ')}
      }`;
}
