/** Products of few rows and long sums on matrix units: the subgroups of a workgroup share the depth of one tile, and no dispatch adds parts up. */
import { fold, type GpuFeatures, type GpuWork } from '../../tensor/index.js';
import { u } from '../vectors.js';
import type { Factor } from './factor.js';
import { busy, range, type Product } from './product.js';
import { storeResult } from './result.js';

/** Rows, columns and depth of a matrix; halves of a vector. */
const side = 16;
const lanes = 8;
/** Subgroups of a workgroup, and how deep each goes at a time. */
const subgroups = 8;
const depth = 32;
/** Vectors of a row of that depth, and from one row to the next in workgroup memory, for the banks' sake. */
const vectors = depth / lanes;
const pitch = vectors + 1;
/** Vectors of a matrix of sums. */
const sumVectors = (side * side) / 4;

/** Bytes that workgroups may read together, of halves; larger tiles read less. */
const mostRead = 1.5 * 2 ** 25;
interface Tile {
  readonly rows: number;
  readonly columns: number;
}

/** One or two matrices each way: two columns of them where that leaves workgroups enough. */
function tileOf({ m, n, batch }: Pick<Product, 'm' | 'n' | 'batch'>): Tile {
  const rows = m > side ? 2 * side : side;
  const wide = rows > side && Math.ceil(m / rows) * Math.ceil(n / side / 2) * batch >= busy;
  return { rows, columns: wide ? 2 * side : side };
}

const memoryOf = ({ rows, columns }: Tile): number => subgroups * Math.max((rows + columns) * pitch, (rows / side) * (columns / side) * sumVectors);

/** Whether it can be, and pays. @param size invocations of a subgroup, of every subgroup */
export function isDeep(gpu: GpuFeatures, product: Product, size: number): boolean {
  const { m, n, k, batch, a, b } = product;
  const tile = tileOf(product);
  const { rows, columns } = tile;
  const read = 2 * batch * k * Math.ceil(m / rows) * Math.ceil(n / columns) * (rows + columns);
  const inOrder = [a, b].every(({ along, whole }) => along === 'depth' && whole !== null);
  const fit = subgroups * size <= gpu.workgroupSize && 16 * memoryOf(tile) <= gpu.workgroupBytes && (side * vectors) % size === 0;
  return read <= mostRead && inOrder && fit && k % (subgroups * depth) === 0 && m * n * k > 0;
}

export function deepProduct(product: Product, size: number): GpuWork {
  const { m, n, k, batch, a, b, result } = product;
  const store = storeResult(result);
  const tile = tileOf(product);
  const { rows, columns } = tile;
  // Steps asked for before the first is used.
  const ahead = [6, 5, 4, 3, 2, 1].find((count) => (k / subgroups / depth) % count === 0) ?? 1;
  const [tilesM, tilesN] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  return {
    dispatches: [
      {
        variant: `deep ${rows}x${columns} ${ahead} ${size} ${a.variant} ${b.variant} ${store.variant}`,
        buffers: [a.binding, b.binding, ...store.buffers],
        workgroups: fold(tilesM * tilesN * batch),
        numbers: { tilesM, tilesN, batches: batch },
        code: () => deepCode(product, tile, ahead, size),
      },
    ],
  };
}

function deepCode({ a, b, result }: Product, tile: Tile, ahead: number, size: number): string {
  const { rows, columns } = tile;
  const [lefts, rights] = [range(rows / side), range(columns / side)];
  /** The matrices of sums, by row and column of them. */
  const sums = lefts.flatMap((i) => rights.map((j) => ({ i, j, name: `sum_${i}_${j}` })));
  const own = (rows + columns) * pitch;
  /** The vectors of a thread: of the rows of the tile of `a`, then of the columns. */
  const parts = [
    { factor: a, name: 'left', first: 'first_row', start: 0, count: (rows * vectors) / size },
    { factor: b, name: 'right', first: 'first_column', start: rows, count: (columns * vectors) / size },
  ] as const;
  const each = (statement: (part: (typeof parts)[number], vector: string, row: string) => string) =>
    parts.flatMap((part) => range(part.count).map((i) => statement(part, `${part.name}_${i}`, `${u((i * size) / vectors)} + lane / ${u(vectors)}`)));
  const whole = (factor: Factor) => {
    if (factor.whole === null) throw new RangeError('a deep product reads whole vectors');
    return factor.whole;
  };
  const matrix = (kind: 'left' | 'right', start: number, step: number) =>
    `subgroupMatrixLoad<subgroup_matrix_${kind}<f16, 16, 16>, ${kind === 'left' ? 'row_major' : 'col_major'}>(&memory, own + ${u(start * pitch + (step * side) / lanes)}, ${u(pitch)})`;
  return `
  ${storeResult(result).code}
  // What each subgroup multiplies; at the end its sums.
  var<workgroup> memory: array<vec4<u32>, ${memoryOf(tile)}>;
  @compute @workgroup_size(${subgroups * size})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(workgroup, workgroups);
    if (flat >= p.tilesM * p.tilesN * p.batches) { return; }
    let first_row = flat % p.tilesM * ${u(rows)};
    let first_column = flat / p.tilesM % p.tilesN * ${u(columns)};
    let batch = flat / p.tilesM / p.tilesN;
    let subgroup = thread / ${u(size)};
    let lane = thread % ${u(size)};
    let own = subgroup * ${u(own)};
    let share = p.k / ${u(subgroups)};
    let begin = subgroup * share;
    // Rows and columns beyond the end take the last ones instead: what comes of them is not stored.
    ${each(({ factor, first }, vector, row) => `let ${vector}_at = ${whole(factor).at('batch', `min(${first} + ${row}, ${whole(factor).last})`, `begin + lane % ${u(vectors)} * ${u(lanes)}`)};`).join('\n    ')}
    ${sums.map(({ name }) => `var ${name} = subgroup_matrix_result<f32, 16, 16>();`).join(' ')}
    for (var at = 0u; at < share; at += ${u(ahead * depth)}) {
      ${range(ahead)
        .flatMap((s) => each(({ factor }, vector) => `let ${vector}_${s} = ${whole(factor).vector(`${vector}_at + at + ${u(s * depth)}`)};`))
        .join('\n      ')}
      ${range(ahead)
        .map(
          (s) => `
      workgroupBarrier();
      ${each(({ start }, vector, row) => `memory[own + (${u(start)} + ${row}) * ${u(pitch)} + lane % ${u(vectors)}] = ${vector}_${s};`).join('\n      ')}
      workgroupBarrier();
      ${range(depth / side)
        .map(
          (step) => `{ ${lefts.map((i) => `let left_${i} = ${matrix('left', i * side, step)};`).join(' ')}
        ${rights.map((j) => `let right_${j} = ${matrix('right', rows + j * side, step)};`).join(' ')}
        ${sums.map(({ i, j, name }) => `${name} = subgroupMatrixMultiplyAccumulate(left_${i}, right_${j}, ${name});`).join(' ')} }`,
        )
        .join('\n      ')}`,
        )
        .join('')}
    }
    workgroupBarrier();
    ${sums.map(({ name }, s) => `subgroupMatrixStore<row_major>(&memory, (${u(s * subgroups)} + subgroup) * ${u(sumVectors)}, ${name}, ${u(side / 4)});`).join('\n    ')}
    workgroupBarrier();
    for (var v = thread; v < ${u(sums.length * sumVectors)}; v += ${u(subgroups * size)}) {
      let matrix = v / ${u(sumVectors)};
      let place = v % ${u(sumVectors)};
      let at = matrix * ${u(subgroups * sumVectors)} + place;
      var total = bitcast<vec4<f32>>(memory[at]);
      ${range(subgroups - 1).map((s) => `total += bitcast<vec4<f32>>(memory[at + ${u((s + 1) * sumVectors)}]);`).join(' ')}
      let row = first_row + matrix / ${u(rights.length)} * ${u(side)} + place / ${u(side / 4)};
      store(0u, batch, row, first_column + matrix % ${u(rights.length)} * ${u(side)} + place % ${u(side / 4)} * 4u, total);
    }
  }`;
}
