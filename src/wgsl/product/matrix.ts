/** Products of halves on matrix units: tiles in workgroup memory, 16×16 matrices of a subgroup's part in its registers. */
import type { GpuFeatures, GpuWork } from '../../tensor/index.js';
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
    variant: `matrix ${Object.values(tile).join('x')} ${String(size)} ${exactFactors(product, tile).join()}`,
    code: (prologue, store) => matrixCode(product, tile, size, prologue, store),
  });
}

/**
 * Of which factors whole vectors are read without a look at bounds: the depth ends with a tile, and outer indices beyond the
 * end take the last ones instead, since what comes of them is not stored.
 */
const exactFactors = ({ a, b, m, n, k }: Product, tile: MatrixTile): [boolean, boolean] => {
  const exact = (factor: Factor, extent: number) => factor.whole !== null && k % tile.depth === 0 && extent >= lanes && (factor.along === 'depth' || extent % lanes === 0);
  return [exact(a, m), exact(b, n)];
};

/**
 * Never true: an array has elements. Where sums go through workgroup memory alone, the compiler for NVIDIA's GPUs makes the whole loop
 * half as fast (157 in place of 289 TFLOP/s on an H100); a way to a store in global memory that it can't rule out prevents that.
 */
const never = (array: string) => `arrayLength(&${array}) == 0u`;

function matrixCode(product: Product, tile: MatrixTile, size: number, prologue: string, store: Store): string {
  const { a, b } = product;
  const [exactA, exactB] = exactFactors(product, tile);
  const u = (value: number) => `${String(value)}u`;
  const subgroups = subgroupsOf(tile);
  const threads = subgroups * size;
  const sides = [
    { name: a.binding.name, factor: a, extent: tile.rows, first: 'first_row', exact: exactA, ...layout(a, tile.rows, tile.depth) },
    { name: b.binding.name, factor: b, extent: tile.columns, first: 'first_column', exact: exactB, ...layout(b, tile.columns, tile.depth) },
  ].map((one) => ({ ...one, count: (one.extent * tile.depth) / lanes }));
  type Side = (typeof sides)[0];
  const [left, right] = sides as [Side, Side];

  /** Statements for each vector of a thread, with `outer` and `depth` within the tile. */
  const eachVector = (one: Side, statements: (vector: string) => string) =>
    range(Math.ceil(one.count / threads))
      .map((i) => {
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
          ${guard}{ ${statements(`next_${one.name}_${String(i)}`)} } }`;
      })
      .join('\n        ');
  const starts = sides
    .map((one) => {
      const { first, exact, factor } = one;
      const { whole } = factor;
      return exact && whole ? eachVector(one, (vector) => `${vector}_at = ${whole.at('batch', `min(${first} + outer, ${whole.last})`, 'begin + depth')};`) : '';
    })
    .join('\n    ');
  const fetch = sides
    .map((one) => {
      const { name, first, factor, exact, count } = one;
      const { whole } = factor;
      const vectors = range(Math.ceil(count / threads)).map((i) => `next_${name}_${String(i)}`);
      if (exact && whole) return vectors.map((vector) => `${vector} = ${whole.vector(`${vector}_at + (at - begin) * ${whole.step}`)};`).join(' ');
      return eachVector(one, (vector) => `${vector} = ${name}_eight(batch, ${first} + outer, at + depth);`);
    })
    .join('\n        ');
  const stage = sides
    .map((one) =>
      eachVector(one, (vector) => {
        const [row, column] = one.factor.along === 'depth' ? ['outer', 'depth'] : ['depth', 'outer'];
        return `tile_${one.name}[${row} * ${u(one.pitch)} + ${column} / ${u(lanes)}] = ${vector};`;
      }),
    )
    .join('\n        ');

  const [rowMatrices, columnMatrices] = [range(tile.subgroupRows / side), range(tile.subgroupColumns / side)];
  const perRow = tile.columns / tile.subgroupColumns;
  /** Loads matrix i of this subgroup's part of a side, at depth step s. */
  const load = (one: Side, kind: 'left' | 'right', subgroupFirst: string, i: number, s: number) => {
    const alongDepth = one.factor.along === 'depth';
    const at = alongDepth
      ? `(${subgroupFirst} + ${u(i * side)}) * ${u(one.pitch)} + ${u((s * side) / lanes)}`
      : `${u(s * side * one.pitch)} + (${subgroupFirst} + ${u(i * side)}) / ${u(lanes)}`;
    const order = alongDepth === (kind === 'left') ? 'row_major' : 'col_major';
    return `subgroupMatrixLoad<subgroup_matrix_${kind}<f16, 16, 16>, ${order}>(&tile_${one.name}, ${at}, ${u(one.pitch)})`;
  };
  const multiply = range(tile.depth / side)
    .map(
      (s) => `{
          ${rowMatrices.map((i) => `let left_${String(i)} = ${load(left, 'left', 'subgroup_row', i, s)};`).join('\n          ')}
          ${columnMatrices
            .map(
              (j) => `{ let right = ${load(right, 'right', 'subgroup_column', j, s)};
            ${rowMatrices.map((i) => `sum_${String(i)}_${String(j)} = subgroupMatrixMultiplyAccumulate(left_${String(i)}, right, sum_${String(i)}_${String(j)});`).join(' ')} }`,
            )
            .join('\n          ')}
        }`,
    )
    .join('\n        ');
  const eachSum = (statement: (i: number, j: number) => string) =>
    rowMatrices.flatMap((i) => columnMatrices.map((j) => statement(i, j))).join('\n      ');
  const position = (i: number, j: number) =>
    `let row = first_row + subgroup_row + ${u(i * side)}; let column = first_column + subgroup_column + ${u(j * side)};`;
  const vectors = (side * side) / 4;
  // A matrix at a time goes through workgroup memory to where something is added, converted, or left out at an edge.
  const throughMemory = eachSum(
    (i, j) => `{
        ${position(i, j)}
        subgroupMatrixStore<row_major>(&sums, subgroup * ${u(vectors)}, sum_${String(i)}_${String(j)}, ${u(side / 4)});
        workgroupBarrier();
        for (var v = lane; v < ${u(vectors)}; v += ${u(size)}) {
          store(split, batch, row + v / ${u(side / 4)}, column + v % ${u(side / 4)} * 4u, sums[subgroup * ${u(vectors)} + v]);
        }
        workgroupBarrier();
      }`,
  );
  const { whole } = store;
  const directly =
    whole === null
      ? ''
      : `if (${whole.asTheyAre ? `first_row + ${u(tile.rows)} <= p.m && first_column + ${u(tile.columns)} <= p.n` : never(whole.name)}) {
      ${eachSum((i, j) => `{ ${position(i, j)} subgroupMatrixStore<row_major>(&${whole.name}, ${whole.at}, sum_${String(i)}_${String(j)}, ${whole.pitch}); }`)}
      return;
    }`;
  return `
  ${a.eight} ${b.eight} ${store.code}
  var<workgroup> tile_${left.name}: array<vec4<u32>, ${String(left.vectors)}>;
  var<workgroup> tile_${right.name}: array<vec4<u32>, ${String(right.vectors)}>;
  var<workgroup> sums: array<vec4<f32>, ${String(subgroups * vectors)}>;
  @compute @workgroup_size(${String(threads)})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    ${prologue}
    let subgroup = thread / ${u(size)};
    let lane = thread % ${u(size)};
    let subgroup_row = subgroup / ${u(perRow)} * ${u(tile.subgroupRows)};
    let subgroup_column = subgroup % ${u(perRow)} * ${u(tile.subgroupColumns)};
    ${sides.flatMap((one) => range(Math.ceil(one.count / threads)).map((i) => `var next_${one.name}_${String(i)} = vec4<u32>(); var next_${one.name}_${String(i)}_at = 0u;`)).join(' ')}
    ${starts}
    ${eachSum((i, j) => `var sum_${String(i)}_${String(j)} = subgroup_matrix_result<f32, 16, 16>();`)}
    // A step asks for a tile, multiplies the one before it, and stages what has come.
    for (var at = begin; at < end + ${u(tile.depth)}; at += ${u(tile.depth)}) {
      if (at < end) {
        ${fetch}
      }
      if (at > begin) {
        ${multiply}
      }
      workgroupBarrier();
      if (at < end) {
        ${stage}
      }
      workgroupBarrier();
    }
    ${directly}
      ${throughMemory}
  }`;
}
