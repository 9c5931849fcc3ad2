/**
 * Attention on matrix units, as far as its three kernels share it. A workgroup has rows (queries, or keys) whose numbers are 16×16 matrices in
 * registers, some rows a subgroup. What the rows meet comes in tiles through workgroup memory. WGSL has no access to a matrix's elements:
 * scores go to a strip of workgroup memory, where one or two invocations have a row, and come back as halves.
 */
import { fold, subgroupSize, type GpuBinding, type GpuDispatch, type GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import { mostWork } from './places.js';

export { eights, never, packFours } from '../../../wgsl/eights.js';

/** Rows, columns and depth of a matrix. */
export const side = 16;
/** Halves of a vector of workgroup memory. */
export const lanes = 8;
const invocations = 32;

export interface MatrixGeometry {
  /** Numbers of a head. */
  readonly size: number;
  /** Of a workgroup. */
  readonly subgroups: number;
  readonly threads: number;
  /** Rows of a subgroup, and matrices of them. */
  readonly rows: number;
  readonly high: number;
  /** Subgroups that share rows, each with half of the products; and invocations that share a row. */
  readonly partners: 1 | 2;
  readonly sharers: number;
  /** Matrices along a head's numbers. */
  readonly deep: number;
  /** Vectors of a row in memory, and from one to the next in workgroup memory. */
  readonly vectors: number;
  readonly pitch: number;
  /** Numbers in f32 of a strip's row, and vectors from one row to the next: one more for the banks' sake. */
  readonly width: number;
  readonly stripPitch: number;
}

/** Two subgroups to 32 rows: one alone could not hold both factors and all sums in registers and leave any to work with. */
export const partnersGeometry = (size: number, subgroups: number): MatrixGeometry => matrixGeometry(size, { rows: 32, subgroups, width: 32, partners: 2 });

/** What of a geometry is to choose: rows of a subgroup, subgroups of a workgroup, numbers of a strip's row, subgroups that share rows. */
export interface Form {
  readonly rows: 16 | 32;
  readonly subgroups: number;
  readonly width: 16 | 32;
  readonly partners: 1 | 2;
}

/** Rows of a workgroup. */
export const rowsOf = ({ rows, subgroups, partners }: MatrixGeometry): number => (rows * subgroups) / partners;

/**
 * More rows of a subgroup read tiles from workgroup memory less often; their sums must fit its registers. Narrow strips let more workgroups
 * share a multiprocessor.
 */
export function matrixGeometry(size: number, { rows = size <= 64 ? 32 : 16, subgroups = 4, width = rows === 32 ? 16 : 32, partners = 1 }: Partial<Form> = {}): MatrixGeometry {
  return {
    ...{ size, subgroups, threads: subgroups * invocations, partners, rows, high: rows / side, sharers: (partners * invocations) / rows },
    ...{ deep: size / side, vectors: size / lanes, pitch: size / lanes + 1, width, stripPitch: width / 4 + 1 },
  };
}

/** Whether matrix units can do it: `names` are read in vectors of eight, `pitches` apart. */
export function haveMatrices<B extends string>(
  { gpu, parameters: { size, length }, dtype, aligned }: GpuLaunch<B, 'size' | 'length'>,
  names: readonly B[],
  pitches: readonly number[],
): boolean {
  return (
    gpu.matrices &&
    subgroupSize(gpu) === invocations &&
    dtype(names[0] as B) === 'f16' &&
    length >= 32 &&
    size % side === 0 &&
    size <= 128 &&
    pitches.every((pitch) => pitch % lanes === 0) &&
    aligned(lanes, ...names)
  );
}

/** Vectors of a tile that an invocation reads. */
const turnsOf = ({ vectors, threads }: MatrixGeometry, tileRows: number): number => Math.ceil((tileRows * vectors) / threads);

/** Statements for each vector of an invocation, with `r` and `c` within the tile. */
function eachVector(geometry: MatrixGeometry, tileRows: number, statement: (i: number) => string): string {
  const { vectors, threads } = geometry;
  const count = tileRows * vectors;
  return repeat(turnsOf(geometry, tileRows), (i) => {
    const guarded = count >= (i + 1) * threads ? statement(i) : `if (id < ${count}u) { ${statement(i)} }`;
    return `{ let id = thread + ${i * threads}u; let r = id / ${vectors}u; let c = id % ${vectors}u; ${guarded} }`;
  });
}

export const declareNext = (geometry: MatrixGeometry, tileRows: number, name: string): string =>
  repeat(turnsOf(geometry, tileRows), (i) => `var next_${name}_${i} = vec4<u32>();`);

/** Asks for a tile. `row` declares `at`, the row in memory, and `present`; what is not present is zero. */
export const fetchTile = (geometry: MatrixGeometry, tileRows: number, names: readonly string[], row: string): string =>
  eachVector(geometry, tileRows, (i) => {
    const clear = names.map((name) => `next_${name}_${i} = vec4<u32>();`).join(' ');
    return `${row} ${clear} if (present) { ${names.map((name) => `next_${name}_${i} = ${name}_eight(at, c);`).join(' ')} }`;
  });

/** Puts a tile into workgroup memory. */
export const stageTile = (geometry: MatrixGeometry, tileRows: number, name: string, tile: string): string =>
  eachVector(geometry, tileRows, (i) => `${tile}[r * ${geometry.pitch}u + c] = next_${name}_${i};`);

const load = (kind: 'left' | 'right', order: 'row_major' | 'col_major', array: string, at: string, pitch: number): string =>
  `subgroupMatrixLoad<subgroup_matrix_${kind}<f16, 16, 16>, ${order}>(&${array}, ${at}, ${pitch}u)`;

/** The matrix of a tile at rows 16·n and numbers 16·s, as right factor: transposed, rows as columns, or as it is, rows as depth. */
export const transposedOf = ({ pitch }: MatrixGeometry, tile: string, n: number, s: number): string =>
  load('right', 'col_major', tile, `${n * side * pitch + s * 2}u`, pitch);
export const asItIs = ({ pitch }: MatrixGeometry, tile: string, n: number, s: number): string =>
  load('right', 'row_major', tile, `${n * side * pitch + s * 2}u`, pitch);

/** Where matrix i of a subgroup's rows begins in its strip, at vector `from`. */
const inStrip = ({ rows, stripPitch }: MatrixGeometry, i: number, from: number | string): string =>
  `team * ${rows * stripPitch}u + ${i * side * stripPitch}u + ${typeof from === 'number' ? `${from}u` : from}`;

/** Halves of a subgroup's strip, as left factor. */
export const leftOfStrip = (geometry: MatrixGeometry, i: number, from: number | string): string =>
  load('left', 'row_major', 'strips', inStrip(geometry, i, from), geometry.stripPitch);

/** Puts a matrix of sums into a subgroup's strip. */
export const storeInStrip = (geometry: MatrixGeometry, sum: string, i: number, from: number | string): string =>
  `subgroupMatrixStore<row_major>(&strips, ${inStrip(geometry, i, from)}, ${sum}, ${geometry.stripPitch}u);`;

/** A matrix of sums from a subgroup's strip. */
export const sumsOfStrip = (geometry: MatrixGeometry, i: number, from: number): string =>
  `subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&strips, ${inStrip(geometry, i, from)}, ${geometry.stripPitch}u)`;

/** Statements for each of 0 … high − 1. */
export const eachHigh = ({ high }: MatrixGeometry, statement: (i: number) => string): string => repeat(high, statement);
export const eachDeep = ({ deep }: MatrixGeometry, statement: (s: number) => string): string => repeat(deep, statement);

export const zeroSums = (name: string): string => `var ${name} = subgroup_matrix_result<f32, 16, 16>();`;

/** Declares the workgroup's rows of a buffer as left factors `<name>_<i>_<s>`. `row` declares `at` and `present` from `r`, a row of the workgroup. */
export function loadRows(geometry: MatrixGeometry, name: string, row: string): string {
  const { high, deep, vectors, threads, width, stripPitch } = geometry;
  // As many numbers at a time as a strip's rows have room for.
  const together = width / 4;
  return Array.from({ length: Math.ceil(vectors / together) }, (_, chunk) => {
    const across = Math.min(together, vectors - chunk * together);
    const first = (chunk * together) / 2;
    const count = Math.min(together / 2, deep - first);
    return `
    workgroupBarrier();
    for (var id = thread; id < ${rowsOf(geometry) * across}u; id += ${threads}u) {
      let r = id / ${across}u;
      let c = id % ${across}u;
      ${row}
      var eight = vec4<u32>();
      if (present) { eight = ${name}_eight(at, c + ${chunk * together}u); }
      strips[r * ${stripPitch}u + c] = eight;
    }
    workgroupBarrier();
    ${repeat(high, (i) => repeat(count, (s) => `let ${name}_${i}_${first + s} = ${leftOfStrip(geometry, i, 2 * s)};`))}`;
  }).join('');
}

/**
 * Sends sums `<name>_<i>_<s>` out through the strip, as many of a row's numbers at a time as it has room for. `put` is a statement with `c`, the number of an eight
 * in the row, and its halves `first` and `second`.
 */
export function storeRows(geometry: MatrixGeometry, name: string, factor: string, put: string): string {
  const { deep, high, sharers, width } = geometry;
  const together = width / side;
  return Array.from({ length: Math.ceil(deep / together) }, (_, turn) => {
    const count = Math.min(together, deep - together * turn);
    return `
    workgroupBarrier();
    ${repeat(high, (i) => repeat(count, (s) => storeInStrip(geometry, `${name}_${i}_${together * turn + s}`, i, 4 * s)))}
    workgroupBarrier();
    if (live) {
      for (var eight = sharer; eight < ${2 * count}u; eight += ${sharers}u) {
        let first = ${factor} * bitcast<vec4<f32>>(strips[strip + 2u * eight]);
        let second = ${factor} * bitcast<vec4<f32>>(strips[strip + 2u * eight + 1u]);
        let c = ${2 * together * turn}u + eight;
        ${put}
      }
    }`;
  }).join('');
}

/** The same for partners, of whose rows the one has `names[0]` and the other `names[1]`: left factors `left_<i>_<s>`. */
export function loadPartnersRows(geometry: MatrixGeometry, names: readonly [string, string], row: string): string {
  const { high, deep, vectors, threads, stripPitch } = geometry;
  return Array.from({ length: Math.ceil(vectors / 4) }, (_, chunk) => {
    const across = Math.min(4, vectors - 4 * chunk);
    return `
    workgroupBarrier();
    for (var id = thread; id < ${rowsOf(geometry) * across}u; id += ${threads}u) {
      let r = id / ${across}u;
      let c = id % ${across}u;
      ${row}
      ${names.map((name, i) => `var eight_${i} = vec4<u32>(); if (present) { eight_${i} = ${name}_eight(at, c + ${4 * chunk}u); } strips[r * ${stripPitch}u + ${4 * i}u + c] = eight_${i};`).join('\n      ')}
    }
    workgroupBarrier();
    ${repeat(high, (i) => repeat(Math.min(2, deep - 2 * chunk), (s) => `let left_${i}_${2 * chunk + s} = ${leftOfStrip(geometry, i, `4u * role + ${2 * s}u`)};`))}`;
  }).join('');
}

/** Sends partners' sums `sums_<i>_<s>` out, a matrix of each at a time. `put` of matrix s is a statement as in `storeRows`, with `eight` (0 or 1). */
export function storePartnersRows(geometry: MatrixGeometry, count: number, factor: string, put: (s: number) => string): string {
  const { high } = geometry;
  return repeat(count, (s) => `
    workgroupBarrier();
    ${repeat(high, (i) => storeInStrip(geometry, `sums_${i}_${s}`, i, '4u * role'))}
    workgroupBarrier();
    if (live) {
      for (var eight = 0u; eight < 2u; eight++) {
        let first = ${factor} * bitcast<vec4<f32>>(strips[strip + 4u * role + 2u * eight]);
        let second = ${factor} * bitcast<vec4<f32>>(strips[strip + 4u * role + 2u * eight + 1u]);
        ${put(s)}
      }
    }`);
}

/** A matrix of one of two tiles of 16 rows beside each other in `pairs`, the one that `which` says: transposed, or as it is from number 16·`from` on. */
export const transposedOfPair = ({ pitch }: MatrixGeometry, which: string, s: number): string =>
  load('right', 'col_major', 'pairs', `${which} * ${side * pitch}u + ${2 * s}u`, pitch);
export const pairAsItIs = ({ pitch }: MatrixGeometry, which: string, from: string): string =>
  load('right', 'row_major', 'pairs', `${which} * ${side * pitch}u + 2u * (${from})`, pitch);

/** Puts a tile into one of the two. */
export const stageInPair = (geometry: MatrixGeometry, name: string, which: 0 | 1): string =>
  eachVector(geometry, side, (i) => `pairs[${which * side * geometry.pitch}u + r * ${geometry.pitch}u + c] = next_${name}_${i};`);

/**
 * Dispatches of a workgroup for each tile of rows of each of `groups`. `body` has `group`, `tile`, `thread`, `subgroup`, `team` and `role` (of partners), `sharer` (of a
 * row), `row_in_tile` and `strip`, where its row's strip begins.
 */
export function matrixDispatches(options: {
  geometry: MatrixGeometry;
  variant: string;
  groups: number;
  rows: number;
  work: number;
  lastFirst: boolean;
  buffers: readonly (string | GpuBinding)[];
  /** Declarations before the function, `tiles` of some rows among them. */
  functions: string;
  tiles: Readonly<Record<string, number>>;
  body: string;
}): GpuDispatch[] {
  const { geometry, variant, groups, rows, work, lastFirst, buffers, functions, tiles, body } = options;
  const tileCount = Math.ceil(rows / rowsOf(geometry));
  const count = tileCount * groups;
  // Matrix units are in GPUs that do this much a hundred times as fast.
  const most = Math.max(1, Math.floor((64 * mostWork) / Math.max(1, work)));
  return Array.from({ length: Math.ceil(count / most) }, (_, i) => {
    const [first, end] = [i * most, Math.min(count, (i + 1) * most)];
    return {
      variant: `matrices ${variant} ${geometry.size} ${geometry.rows}x${geometry.subgroups / geometry.partners}x${geometry.partners} ${geometry.width}`,
      buffers,
      numbers: { first, end, groups, tileCount },
      workgroups: fold(end - first),
      code: () => `
  ${functions}
  var<workgroup> strips: array<vec4<u32>, ${rowsOf(geometry) * geometry.stripPitch}>;
  ${Object.entries(tiles).map(([name, tileRows]) => `var<workgroup> ${name}: array<vec4<u32>, ${tileRows * geometry.pitch}>;`).join('\n  ')}
  @compute @workgroup_size(${geometry.threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count) + p.first;
    if (flat >= p.end) { return; }
    let group = flat % p.groups;
    let tile = ${lastFirst ? 'p.tileCount - 1u - flat / p.groups' : 'flat / p.groups'};
    let subgroup = thread / ${invocations}u;
    let team = subgroup / ${geometry.partners}u;
    let role = subgroup % ${geometry.partners}u;
    let sharer = role * ${invocations / geometry.rows}u + thread % ${invocations}u / ${geometry.rows}u;
    let row_in_tile = team * ${geometry.rows}u + thread % ${geometry.rows}u;
    let strip = row_in_tile * ${geometry.stripPitch}u;
    ${body}
  }`,
    };
  });
}
