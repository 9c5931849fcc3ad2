/** Products in float32: tiles in workgroup memory, a part of the result in the registers of each thread. */
import type { GpuFeatures, GpuWork } from '../../tensor/index.js';
import { u } from '../vectors.js';
import type { Factor } from './factor.js';
import { range, tileDispatches, type Extents, type Product } from './product.js';
import type { Store } from './result.js';

/** A workgroup's part of the result, and a thread's, in multiples of four. */
export interface Tile extends Extents {
  readonly threadRows: number;
  readonly threadColumns: number;
}

const threadsOf = (tile: Tile) => (tile.rows / tile.threadRows) * (tile.columns / tile.threadColumns);

/** Vectors of four from one depth of a tile in workgroup memory to the next; one more than its extent keeps banks apart. */
const pitchOf = (extent: number) => extent / 4 + 1;

const bytesOf = (tile: Tile) => 16 * tile.depth * (pitchOf(tile.rows) + pitchOf(tile.columns));

/** Multiplications that a slow GPU does in a second or so. */
const mostWork = 2 ** 36;

export function tiledProduct(gpu: GpuFeatures, product: Product, tile: Tile, splits: number): GpuWork {
  const buffers = 2 * bytesOf(tile) <= gpu.workgroupBytes ? 2 : 1;
  return tileDispatches(product, tile, {
    splits,
    mostWork,
    groupRows: 8,
    variant: `tiled ${Object.values(tile).join('x')} ${buffers}`,
    code: (prologue, store) => tiledCode(product, tile, buffers, prologue, store),
  });
}

const letters = ['x', 'y', 'z', 'w'] as const;

/** A factor, and how a workgroup reads its tile. */
interface Side {
  /** The factor's name. */
  readonly name: string;
  readonly factor: Factor;
  /** Of the tile along the outer index; WGSL of the first. */
  readonly extent: number;
  readonly first: string;
  /** Blocks of 4×4 elements. */
  readonly blocks: number;
  /** Vectors from one depth to the next in workgroup memory, and of the tile there. */
  readonly pitch: number;
  readonly size: number;
}

function sidesOf({ a, b }: Product, tile: Tile): readonly [left: Side, right: Side] {
  const side = (factor: Factor, extent: number, first: string): Side => ({
    ...{ name: factor.binding.name, factor, extent, first },
    ...{ blocks: (extent * tile.depth) / 16, pitch: pitchOf(extent), size: tile.depth * pitchOf(extent) },
  });
  return [side(a, tile.rows, 'first_row'), side(b, tile.columns, 'first_column')];
}

/**
 * The two tiles are staged in blocks of 4×4 elements: a thread reads four vectors as they lie in memory, and writes four that
 * run along the outer index, transposed in registers if need be. The next blocks are asked for before a tile is multiplied.
 */
function tiledCode(product: Product, tile: Tile, buffers: number, prologue: string, store: Store): string {
  const threads = threadsOf(tile);
  const sides = sidesOf(product, tile);
  const [left, right] = sides;
  const turns = range(Math.ceil((left.blocks + right.blocks) / threads));
  const columnParts = range(tile.threadColumns / 4);
  return `
  ${product.a.four} ${product.b.four} ${store.code}
  var<workgroup> tile_${left.name}: array<vec4<f32>, ${buffers * left.size}>;
  var<workgroup> tile_${right.name}: array<vec4<f32>, ${buffers * right.size}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    ${prologue}
    ${turns.flatMap((i) => range(4).map((c) => `var block_${i}_${c} = vec4<f32>();`)).join(' ')}
    ${range(tile.threadRows).flatMap((row) => columnParts.map((c) => `var ${sumOf(row, c)} = vec4<f32>();`)).join(' ')}
    var before = 0u;
    // A step asks for a tile, multiplies the one before it, and stages what has come.
    for (var at = begin; at < end + ${u(tile.depth)}; at += ${u(tile.depth)}) {
      if (at < end) { ${turns.map((i) => fetch(sides, tile, i)).join('')} }
      if (at > begin) {
        ${multiply(sides, tile)}
      }
      ${buffers === 2 ? 'let side = 1u - before;' : 'let side = 0u; workgroupBarrier();'}
      if (at < end) { ${turns.map((i) => stage(sides, tile, i)).join('')} }
      workgroupBarrier();
      before = side;
    }
    ${range(tile.threadRows)
      .flatMap((row) =>
        columnParts.map(
          (c) =>
            `store(split, batch, first_row + (${rowOf(tile, Math.floor(row / 4))}) * 4u + ${u(row % 4)}, first_column + (${columnOf(tile, c)}) * 4u, ${sumOf(row, c)});`,
        ),
      )
      .join('\n    ')}
  }`;
}

/** Statements for a thread's block of turn i, with `outer` and `depth` within the tile. */
function eachBlock([left, right]: readonly [Side, Side], tile: Tile, i: number, statements: (side: Side) => string): string {
  const part = (side: Side, id: string) => {
    const alongDepth = side.factor.threadsAlong === 'depth';
    const fast = alongDepth ? tile.depth / 4 : side.extent / 4;
    const [outer, depth] = alongDepth ? [`${id} / ${u(fast)}`, `${id} % ${u(fast)}`] : [`${id} % ${u(fast)}`, `${id} / ${u(fast)}`];
    return `let outer = (${outer}) * 4u; let depth = (${depth}) * 4u; ${statements(side)}`;
  };
  return `
      { let id = thread + ${u(i * threadsOf(tile))};
        if (id < ${u(left.blocks)}) { ${part(left, 'id')} }
        else if (id < ${u(left.blocks + right.blocks)}) { ${part(right, `(id - ${u(left.blocks)})`)} } }`;
}

/** Asks for the block of turn i of the tile at depth `at`. */
const fetch = (sides: readonly [Side, Side], tile: Tile, i: number): string =>
  eachBlock(sides, tile, i, ({ name, factor, first }) =>
    range(4)
      .map((c) => {
        const [outer, depth] = factor.along === 'depth' ? [`outer + ${u(c)}`, 'depth'] : ['outer', `depth + ${u(c)}`];
        return `block_${i}_${c} = ${name}_four(batch, ${first} + ${outer}, at + ${depth});`;
      })
      .join(' '),
  );

/** Puts the block of turn i into workgroup memory. */
const stage = (sides: readonly [Side, Side], tile: Tile, i: number): string =>
  eachBlock(sides, tile, i, ({ name, factor, pitch, size }) =>
    range(4)
      .map((c) => {
        const block = (r: number) => `block_${i}_${r}`;
        const value = factor.along === 'outer' ? block(c) : `vec4<f32>(${range(4).map((r) => `${block(r)}.${letters[c] ?? 'x'}`).join(', ')})`;
        return `tile_${name}[side * ${u(size)} + (depth + ${u(c)}) * ${u(pitch)} + outer / 4u] = ${value};`;
      })
      .join(' '),
  );

// A thread's rows and columns are groups of four, spread over the tile: neighbours read neighbouring vectors.
const perRow = (tile: Tile) => tile.columns / tile.threadColumns;
const rowOf = (tile: Tile, part: number) => `${u((part * tile.rows) / tile.threadRows)} + thread / ${u(perRow(tile))}`;
const columnOf = (tile: Tile, part: number) => `${u(part * perRow(tile))} + thread % ${u(perRow(tile))}`;
const sumOf = (row: number, part: number) => `sum_${row}_${part}`;

/** Adds the product of the tiles in workgroup memory to the sums. */
function multiply([left, right]: readonly [Side, Side], tile: Tile): string {
  const rowParts = range(tile.threadRows / 4);
  const columnParts = range(tile.threadColumns / 4);
  const load = (name: string, { name: factor, size, pitch }: Side, r: number, at: string) =>
    `let ${name}_${r} = tile_${factor}[before * ${u(size)} + depth * ${u(pitch)} + ${at}];`;
  return `for (var depth = 0u; depth < ${u(tile.depth)}; depth++) {
          ${rowParts.map((r) => load('left', left, r, rowOf(tile, r))).join(' ')}
          ${columnParts.map((c) => load('right', right, c, columnOf(tile, c))).join(' ')}
          ${rowParts
            .flatMap((r) => range(4).flatMap((i) => columnParts.map((c) => `${sumOf(4 * r + i, c)} += left_${r}.${letters[i] ?? 'x'} * right_${c};`)))
            .join('\n        ')}
        }`;
}
