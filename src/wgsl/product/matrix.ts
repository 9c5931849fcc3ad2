/** Products of halves on matrix units: tiles in workgroup memory, 16×16 matrices of a subgroup's part in its registers. */
import type { GpuFeatures, GpuWork } from '../../tensor/index.js';
import { u } from '../vectors.js';
import type { Factor } from './factor.js';
import { range, tileDispatches, type Extents, type Product } from './product.js';
import type { Store } from './result.js';

/** A workgroup's part of the result, and a subgroup's, in multiples of 16. */
export interface MatrixTile extends Extents {
  readonly subgroupRows: number;
  readonly subgroupColumns: number;
  /** Rows of tiles that go together. */
  readonly groupRows: number;
}

/** Rows, columns and depth of a matrix; halves of a vector. */
const side = 16;
const lanes = 8;
/** Vectors of a matrix of sums. */
const sumVectors = (side * side) / 4;

/** Threads that store a vector each to workgroup memory at one time: to all of its banks once, if the vectors lie apart. */
const together = 8;

const subgroupsOf = (tile: MatrixTile) => (tile.rows / tile.subgroupRows) * (tile.columns / tile.subgroupColumns);

/** How a factor's tile lies in workgroup memory: as in its own, in vectors, rows one vector further apart for the banks' sake. */
function layout(factor: Factor, extent: number, depth: number) {
  const [rows, columns] = factor.along === 'depth' ? [extent, depth] : [depth, extent];
  const pitch = columns / lanes + 1;
  return { pitch, vectors: rows * pitch };
}

/** Bytes of workgroup memory, of the tiles and of a matrix of sums for each subgroup. */
export function matrixBytes({ a, b }: Pick<Product, 'a' | 'b'>, tile: MatrixTile): number {
  const vectors = layout(a, tile.rows, tile.depth).vectors + layout(b, tile.columns, tile.depth).vectors;
  return 16 * vectors + 4 * side * side * subgroupsOf(tile);
}

/** @param size invocations of a subgroup, of every subgroup */
export function matrixProduct(gpu: GpuFeatures, product: Product, tile: MatrixTile, splits: number, size: number): GpuWork {
  return tileDispatches(product, tile, {
    splits,
    mostWork: Infinity,
    groupRows: tile.groupRows,
    variant: `matrix ${Object.values(tile).join('x')} ${size} ${exactFactors(product, tile).join()}`,
    code: (prologue, store) => matrixCode(product, tile, size, prologue, store),
  });
}

/**
 * Of which factors whole vectors are read without a look at bounds: the depth ends with a tile, and outer indices beyond the
 * end take the last ones instead, since what comes of them is not stored. Groups of depths end anywhere: their last tile is looked at.
 */
const exactFactors = ({ a, b, m, n, k, groups }: Product, tile: MatrixTile): [boolean, boolean] => {
  const whole = groups?.of === 'depth' || k % tile.depth === 0;
  const exact = (factor: Factor, extent: number) => factor.whole !== null && whole && extent >= lanes && (factor.along === 'depth' || extent % lanes === 0);
  return [exact(a, m), exact(b, n)];
};

/**
 * Never true: an array has elements. Where sums go through workgroup memory alone, the compiler for NVIDIA's GPUs makes the whole loop
 * half as fast (157 in place of 289 TFLOP/s on an H100); a way to a store in global memory that it can't rule out prevents that.
 */
const never = (array: string) => `arrayLength(&${array}) == 0u`;

/** A factor, and how a workgroup reads its tile. */
interface Side {
  /** The factor's name. */
  readonly name: string;
  readonly factor: Factor;
  /** Of the tile along the outer index; WGSL of the first. */
  readonly extent: number;
  readonly first: string;
  /** Whether whole vectors are read without a look at bounds (`exactFactors`), and whether the last tile's are looked at all the same. */
  readonly exact: boolean;
  readonly ragged: boolean;
  /** Vectors from one row of the tile to the next in workgroup memory, and of all of it there. */
  readonly pitch: number;
  readonly vectors: number;
  /** Vectors that are read. */
  readonly count: number;
}

function sidesOf(product: Product, tile: MatrixTile): readonly [left: Side, right: Side] {
  const [exactA, exactB] = exactFactors(product, tile);
  const of = (factor: Factor, extent: number, first: string, exact: boolean): Side => ({
    ...{ name: factor.binding.name, factor, extent, first, exact, ragged: product.groups?.of === 'depth', count: (extent * tile.depth) / lanes },
    ...layout(factor, extent, tile.depth),
  });
  return [of(product.a, tile.rows, 'first_row', exactA), of(product.b, tile.columns, 'first_column', exactB)];
}

function matrixCode(product: Product, tile: MatrixTile, size: number, prologue: string, store: Store): string {
  const { a, b } = product;
  const subgroups = subgroupsOf(tile);
  const threads = subgroups * size;
  const sides = sidesOf(product, tile);
  const [left, right] = sides;
  const each = (code: (one: Side) => string, separator = '\n        ') => sides.map(code).join(separator);
  const perRow = tile.columns / tile.subgroupColumns;
  return `
  ${a.eight} ${b.eight} ${store.code}
  var<workgroup> tile_${left.name}: array<vec4<u32>, ${left.vectors}>;
  var<workgroup> tile_${right.name}: array<vec4<u32>, ${right.vectors}>;
  var<workgroup> sums: array<vec4<f32>, ${subgroups * sumVectors}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    ${prologue}
    let subgroup = thread / ${u(size)};
    let lane = thread % ${u(size)};
    let subgroup_row = subgroup / ${u(perRow)} * ${u(tile.subgroupRows)};
    let subgroup_column = subgroup % ${u(perRow)} * ${u(tile.subgroupColumns)};
    ${each((one) => declareVectors(one, threads), ' ')}
    ${each((one) => startVectors(one, tile, threads))}
    ${eachSum(tile, (sum) => `var ${sum} = subgroup_matrix_result<f32, 16, 16>();`)}
    // A step asks for a tile, multiplies the one before it, and stages what has come.
    for (var at = begin; at < end + ${u(tile.depth)}; at += ${u(tile.depth)}) {
      if (at < end) {
        ${each((one) => fetch(one, tile, threads))}
      }
      if (at > begin) {
        ${multiply(sides, tile)}
      }
      workgroupBarrier();
      if (at < end) {
        ${each((one) => stage(one, tile, threads))}
      }
      workgroupBarrier();
    }
    ${storeDirectly(tile, store)}
      ${storeThroughMemory(tile, size)}
  }`;
}

/** The names of a thread's vectors of a side. */
const vectorsOf = ({ name, count }: Side, threads: number): string[] => range(Math.ceil(count / threads)).map((i) => `next_${name}_${i}`);

const declareVectors = (one: Side, threads: number): string =>
  vectorsOf(one, threads).map((vector) => `var ${vector} = vec4<u32>(); var ${vector}_at = 0u;`).join(' ');

/** Statements for each vector of a thread, with `outer` and `depth` within the tile. */
const eachVector = (one: Side, tile: MatrixTile, threads: number, statements: (vector: string) => string): string =>
  vectorsOf(one, threads)
    .map((vector, i) => {
      const { along, threadsAlong } = one.factor;
      // Steps of a vector along the index in which it runs, of one along the other.
      const [outers, depths] = along === 'depth' ? [1, lanes] : [lanes, 1];
      const fast = threadsAlong === 'depth' ? tile.depth / depths : one.extent / outers;
      const [outer, depth] = threadsAlong === 'depth' ? ['/', '%'] : ['%', '/'];
      const guard = one.count % threads === 0 ? '' : `if (id < ${u(one.count)}) `;
      // Where such threads have vectors of some rows, these are `fast` rows apart: neighbours' would share banks.
      const rows = together / fast;
      const scattered = along === 'depth' && threadsAlong === 'depth' && rows > 1 && one.extent % together === 0;
      const nth = scattered ? `(id / ${u(together * fast)} * ${u(together)} + id / ${u(fast)} % ${u(rows)} * ${u(fast)} + id / ${u(together)} % ${u(fast)})` : `id ${outer} ${u(fast)}`;
      return `{ let id = thread + ${u(i * threads)}; let outer = ${nth} * ${u(outers)}; let depth = id ${depth} ${u(fast)} * ${u(depths)};
          ${guard}{ ${statements(vector)} } }`;
    })
    .join('\n        ');

/** Where a thread's vectors of the first tile lie, if it reads them without a look at bounds. */
function startVectors(one: Side, tile: MatrixTile, threads: number): string {
  const { first, exact, factor: { whole } } = one;
  if (!exact || !whole) return '';
  return eachVector(one, tile, threads, (vector) => `${vector}_at = ${whole.at('batch', `min(${first} + outer, ${whole.last})`, 'begin + depth')};`);
}

/** Asks for a thread's vectors of the tile at depth `at`. */
function fetch(one: Side, tile: MatrixTile, threads: number): string {
  const { name, first, exact, ragged, factor: { whole } } = one;
  const looked = eachVector(one, tile, threads, (vector) => `${vector} = ${name}_eight(batch, ${first} + outer, at + depth);`);
  if (!exact || !whole) return looked;
  const unlooked = vectorsOf(one, threads).map((vector) => `${vector} = ${whole.vector(`${vector}_at + (at - begin) * ${whole.step}`)};`).join(' ');
  return ragged ? `if (at + ${u(tile.depth)} <= end) { ${unlooked} } else { ${looked} }` : unlooked;
}

/** Puts a thread's vectors into workgroup memory. */
function stage(one: Side, tile: MatrixTile, threads: number): string {
  const [row, column] = one.factor.along === 'depth' ? ['outer', 'depth'] : ['depth', 'outer'];
  return eachVector(one, tile, threads, (vector) => `tile_${one.name}[${row} * ${u(one.pitch)} + ${column} / ${u(lanes)}] = ${vector};`);
}

/** Matrix i of a subgroup's part of a side, at depth step s. */
function loadMatrix(one: Side, kind: 'left' | 'right', i: number, s: number): string {
  const subgroupFirst = kind === 'left' ? 'subgroup_row' : 'subgroup_column';
  const alongDepth = one.factor.along === 'depth';
  const at = alongDepth
    ? `(${subgroupFirst} + ${u(i * side)}) * ${u(one.pitch)} + ${u((s * side) / lanes)}`
    : `${u(s * side * one.pitch)} + (${subgroupFirst} + ${u(i * side)}) / ${u(lanes)}`;
  const order = alongDepth === (kind === 'left') ? 'row_major' : 'col_major';
  return `subgroupMatrixLoad<subgroup_matrix_${kind}<f16, 16, 16>, ${order}>(&tile_${one.name}, ${at}, ${u(one.pitch)})`;
}

/** The matrices of a subgroup's part: rows of them, and columns. */
const matricesOf = (tile: MatrixTile): readonly [rows: number[], columns: number[]] => [range(tile.subgroupRows / side), range(tile.subgroupColumns / side)];

/** Adds the product of the tiles in workgroup memory to the sums. */
function multiply([left, right]: readonly [Side, Side], tile: MatrixTile): string {
  const [rows, columns] = matricesOf(tile);
  return range(tile.depth / side)
    .map(
      (s) => `{
          ${rows.map((i) => `let left_${i} = ${loadMatrix(left, 'left', i, s)};`).join('\n          ')}
          ${columns
            .map(
              (j) => `{ let right = ${loadMatrix(right, 'right', j, s)};
            ${rows.map((i) => `sum_${i}_${j} = subgroupMatrixMultiplyAccumulate(left_${i}, right, sum_${i}_${j});`).join(' ')} }`,
            )
            .join('\n          ')}
        }`,
    )
    .join('\n        ');
}

/** Statements for each matrix of sums; `position` declares row and column of its first. */
function eachSum(tile: MatrixTile, statement: (sum: string, position: string) => string): string {
  const [rows, columns] = matricesOf(tile);
  const position = (i: number, j: number) =>
    `let row = first_row + subgroup_row + ${u(i * side)}; let column = first_column + subgroup_column + ${u(j * side)};`;
  return rows.flatMap((i) => columns.map((j) => statement(`sum_${i}_${j}`, position(i, j)))).join('\n      ');
}

/** A matrix at a time goes through workgroup memory to where something is added, converted, or left out at an edge. */
const storeThroughMemory = (tile: MatrixTile, size: number): string =>
  eachSum(
    tile,
    (sum, position) => `{
        ${position}
        subgroupMatrixStore<row_major>(&sums, subgroup * ${u(sumVectors)}, ${sum}, ${u(side / 4)});
        workgroupBarrier();
        for (var v = lane; v < ${u(sumVectors)}; v += ${u(size)}) {
          store(split, batch, row + v / ${u(side / 4)}, column + v % ${u(side / 4)} * 4u, sums[subgroup * ${u(sumVectors)} + v]);
        }
        workgroupBarrier();
      }`,
  );

/** Whole matrices go to the result, and nothing else is to be done, where that is all there is to a tile. */
function storeDirectly(tile: MatrixTile, { whole }: Store): string {
  if (whole === null) return '';
  return `if (${whole.asTheyAre ? `first_row + ${u(tile.rows)} <= ${whole.rows} && first_column + ${u(tile.columns)} <= p.n` : never(whole.name)}) {
      ${eachSum(tile, (sum, position) => `{ ${position} subgroupMatrixStore<row_major>(&${whole.name}, ${whole.at}, ${sum}, ${whole.pitch}); }`)}
      return;
    }`;
}
