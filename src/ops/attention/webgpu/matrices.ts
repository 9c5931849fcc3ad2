/**
 * Attention on matrix units, as far as its three kernels share it. A workgroup has rows (queries, or keys) whose numbers are 16×16 matrices in
 * registers, some rows a subgroup. What the rows meet comes in tiles through workgroup memory. WGSL has no access to a matrix's elements:
 * scores go to a strip of workgroup memory, where one or two invocations have a row, and come back as halves.
 */
import { fold, subgroupSize, type DType, type GpuBinding, type GpuDispatch, type GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import { mostWork } from './places.js';

/** Rows, columns and depth of a matrix. */
export const side = 16;
/** Halves of a vector of workgroup memory. */
export const lanes = 8;
const invocations = 32;
/** Vectors from one row of a strip to the next: 32 numbers in f32, and one vector more for the banks' sake. */
export const stripPitch = 9;

export interface MatrixGeometry {
  /** Numbers of a head. */
  readonly size: number;
  /** Of a workgroup. */
  readonly subgroups: number;
  readonly threads: number;
  /** Rows of a subgroup, and matrices of them. */
  readonly rows: number;
  readonly high: number;
  /** Neighbouring halves of a subgroup that share a row. */
  readonly sharers: number;
  /** Matrices along a head's numbers. */
  readonly deep: number;
  /** Vectors of a row in memory, and from one to the next in workgroup memory. */
  readonly vectors: number;
  readonly pitch: number;
}

/** Rows of a workgroup. */
export const rowsOf = ({ rows, subgroups }: MatrixGeometry): number => rows * subgroups;

/** More rows of a subgroup read tiles from workgroup memory less often; their sums must fit its registers. */
export function matrixGeometry(size: number, rows: 16 | 32 = size <= 64 ? 32 : 16, subgroups = 4): MatrixGeometry {
  return { size, subgroups, threads: subgroups * invocations, rows, high: rows / side, sharers: invocations / rows, deep: size / side, vectors: size / lanes, pitch: size / lanes + 1 };
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

/** A buffer that is read or written eight numbers at a time. */
export interface Eights {
  readonly binding: GpuBinding;
  /** `fn <name>_eight(row, c) -> vec4<u32>`: eight as pairs of halves. */
  readonly read: string;
  /** `fn <name>_put(row, c, first: vec4<f32>, second: vec4<f32>)`. */
  readonly write: string;
}

const packed = (first: string, second: string): string =>
  `vec4<u32>(${[first, second].flatMap((four) => ['xy', 'zw'].map((pair) => `pack2x16float(${four}.${pair})`)).join(', ')})`;

/** @param pitch WGSL of the elements from one row to the next */
export function eights(name: string, dtype: DType | undefined, pitch: string, saturated = false): Eights {
  const half = dtype === 'f16';
  const each = half ? lanes : 4;
  const at = `p.${name}_at + row * (${pitch} / ${each}u) + c${half ? '' : ' * 2u'}`;
  const bounded = (four: string) => (saturated ? `clamp(${four}, vec4<f32>(-65504.0), vec4<f32>(65504.0))` : four);
  return {
    binding: { name, as: half ? 'vec4<u32>' : 'vec4<f32>' },
    read: `
  fn ${name}_eight(row: u32, c: u32) -> vec4<u32> {
    let at = ${at};
    return ${half ? `${name}[at]` : packed(`${name}[at]`, `${name}[at + 1u]`)};
  }`,
    write: `
  fn ${name}_put(row: u32, c: u32, first: vec4<f32>, second: vec4<f32>) {
    let at = ${at};
    ${half ? `${name}[at] = ${packed(bounded('first'), bounded('second'))};` : `${name}[at] = first; ${name}[at + 1u] = second;`}
  }`,
  };
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
const inStrip = ({ rows }: MatrixGeometry, i: number, from: number): string => `subgroup * ${rows * stripPitch}u + ${i * side * stripPitch + from}u`;

/** Halves of a subgroup's strip, as left factor. */
export const leftOfStrip = (geometry: MatrixGeometry, i: number, from: number): string =>
  load('left', 'row_major', 'strips', inStrip(geometry, i, from), stripPitch);

/** Puts a matrix of sums into a subgroup's strip. */
export const storeInStrip = (geometry: MatrixGeometry, sum: string, i: number, from: number): string =>
  `subgroupMatrixStore<row_major>(&strips, ${inStrip(geometry, i, from)}, ${sum}, ${stripPitch}u);`;

/** A matrix of sums from a subgroup's strip. */
export const sumsOfStrip = (geometry: MatrixGeometry, i: number, from: number): string =>
  `subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&strips, ${inStrip(geometry, i, from)}, ${stripPitch}u)`;

/** Statements for each of 0 … high − 1. */
export const eachHigh = ({ high }: MatrixGeometry, statement: (i: number) => string): string => repeat(high, statement);
export const eachDeep = ({ deep }: MatrixGeometry, statement: (s: number) => string): string => repeat(deep, statement);

export const zeroSums = (name: string): string => `var ${name} = subgroup_matrix_result<f32, 16, 16>();`;

/** Declares the workgroup's rows of a buffer as left factors `<name>_<i>_<s>`. `row` declares `at` and `present` from `r`, a row of the workgroup. */
export function loadRows(geometry: MatrixGeometry, name: string, row: string): string {
  const { high, deep, vectors, threads } = geometry;
  // As many numbers at a time as a strip's rows have room for.
  const together = 8;
  return Array.from({ length: Math.ceil(vectors / together) }, (_, chunk) => {
    const width = Math.min(together, vectors - chunk * together);
    const first = (chunk * together) / 2;
    const count = Math.min(together / 2, deep - first);
    return `
    workgroupBarrier();
    for (var id = thread; id < ${rowsOf(geometry) * width}u; id += ${threads}u) {
      let r = id / ${width}u;
      let c = id % ${width}u;
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
 * Sends sums `<name>_<i>_<s>` out: 32 numbers of a row at a time, through the strip. `put` is a statement with `c`, the number of an eight
 * in the row, and its halves `first` and `second`.
 */
export function storeRows(geometry: MatrixGeometry, name: string, factor: string, put: string): string {
  const { deep, high, sharers } = geometry;
  return Array.from({ length: Math.ceil(deep / 2) }, (_, pair) => {
    const count = Math.min(2, deep - 2 * pair);
    return `
    workgroupBarrier();
    ${repeat(high, (i) => repeat(count, (s) => storeInStrip(geometry, `${name}_${i}_${2 * pair + s}`, i, 4 * s)))}
    workgroupBarrier();
    if (live) {
      for (var eight = sharer; eight < ${2 * count}u; eight += ${sharers}u) {
        let first = ${factor} * bitcast<vec4<f32>>(strips[strip + 2u * eight]);
        let second = ${factor} * bitcast<vec4<f32>>(strips[strip + 2u * eight + 1u]);
        let c = ${4 * pair}u + eight;
        ${put}
      }
    }`;
  }).join('');
}

/** Two fours as an eight of halves. */
export const packFours = packed;

/**
 * Never true: an array has elements. Behind it stands a store of sums to global memory, without which the compiler for NVIDIA's GPUs makes
 * loops over products slow (docs/webgpu.md).
 */
export const never = (array: string): string => `arrayLength(&${array}) == 0u`;

/**
 * Dispatches of a workgroup for each tile of rows of each of `groups`. `body` has `group`, `tile`, `thread`, `subgroup`, `sharer` (of a
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
      variant: `matrices ${variant} ${geometry.size} ${geometry.rows}x${geometry.subgroups}`,
      buffers,
      numbers: { first, end, groups, tileCount },
      workgroups: fold(end - first),
      code: () => `
  ${functions}
  var<workgroup> strips: array<vec4<u32>, ${rowsOf(geometry) * stripPitch}>;
  ${Object.entries(tiles).map(([name, tileRows]) => `var<workgroup> ${name}: array<vec4<u32>, ${tileRows * geometry.pitch}>;`).join('\n  ')}
  @compute @workgroup_size(${geometry.threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count) + p.first;
    if (flat >= p.end) { return; }
    let group = flat % p.groups;
    let tile = ${lastFirst ? 'p.tileCount - 1u - flat / p.groups' : 'flat / p.groups'};
    let subgroup = thread / ${invocations}u;
    let sharer = thread % ${invocations}u / ${geometry.rows}u;
    let row_in_tile = subgroup * ${geometry.rows}u + thread % ${geometry.rows}u;
    let strip = row_in_tile * ${stripPitch}u;
    ${body}
  }`,
    };
  });
}
