/** Products in float32: tiles in workgroup memory, a part of the result in the registers of each thread. */
import type { GpuFeatures, GpuWork } from '../../tensor/index.js';
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
    variant: `tiled ${Object.values(tile).join('x')} ${String(buffers)}`,
    code: (prologue, store) => tiledCode(product, tile, buffers, prologue, store),
  });
}

const letters = ['x', 'y', 'z', 'w'] as const;

/**
 * The two tiles are staged in blocks of 4×4 elements: a thread reads four vectors as they lie in memory, and writes four that
 * run along the outer index, transposed in registers if need be. The next blocks are asked for before a tile is multiplied.
 */
function tiledCode({ a, b }: Product, tile: Tile, buffers: number, prologue: string, store: Store): string {
  const threads = threadsOf(tile);
  const sides = [
    { name: a.binding.name, factor: a, extent: tile.rows, first: 'first_row' },
    { name: b.binding.name, factor: b, extent: tile.columns, first: 'first_column' },
  ].map((side) => ({ ...side, blocks: (side.extent * tile.depth) / 16, pitch: pitchOf(side.extent), size: tile.depth * pitchOf(side.extent) }));
  const [left, right] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const turns = range(Math.ceil((left.blocks + right.blocks) / threads));
  const number = (value: number) => `${String(value)}u`;

  /** Statements for the block of turn i, with `outer` and `depth` within the tile. */
  const eachBlock = (i: number, statements: (side: (typeof sides)[0]) => string) => {
    const part = (side: (typeof sides)[0], id: string) => {
      const [fast, slow] = [side.factor.threadsAlong === 'depth' ? tile.depth / 4 : side.extent / 4, id] as const;
      const [outer, depth] =
        side.factor.threadsAlong === 'depth'
          ? [`${slow} / ${number(fast)}`, `${slow} % ${number(fast)}`]
          : [`${slow} % ${number(fast)}`, `${slow} / ${number(fast)}`];
      return `let outer = (${outer}) * 4u; let depth = (${depth}) * 4u; ${statements(side)}`;
    };
    return `
      { let id = thread + ${number(i * threads)};
        if (id < ${number(left.blocks)}) { ${part(left, 'id')} }
        else if (id < ${number(left.blocks + right.blocks)}) { ${part(right, `(id - ${number(left.blocks)})`)} } }`;
  };
  const fetch = (at: string) =>
    turns
      .map((i) =>
        eachBlock(i, ({ name, factor, first }) =>
          range(4)
            .map((c) => {
              const [outer, depth] = factor.along === 'depth' ? [`outer + ${number(c)}`, 'depth'] : ['outer', `depth + ${number(c)}`];
              return `block_${String(i)}_${String(c)} = ${name}_four(batch, ${first} + ${outer}, ${at} + ${depth});`;
            })
            .join(' '),
        ),
      )
      .join('');
  const stage = turns
    .map((i) =>
      eachBlock(i, ({ name, factor, pitch, size }) =>
        range(4)
          .map((c) => {
            const block = (r: number) => `block_${String(i)}_${String(r)}`;
            const value =
              factor.along === 'outer' ? block(c) : `vec4<f32>(${range(4).map((r) => `${block(r)}.${letters[c] ?? 'x'}`).join(', ')})`;
            return `tile_${name}[side * ${number(size)} + (depth + ${number(c)}) * ${number(pitch)} + outer / 4u] = ${value};`;
          })
          .join(' '),
      ),
    )
    .join('');

  const rowParts = range(tile.threadRows / 4);
  const columnParts = range(tile.threadColumns / 4);
  const perRow = tile.columns / tile.threadColumns;
  // A thread's rows and columns are groups of four, spread over the tile: neighbours read neighbouring vectors.
  const rowOf = (part: number) => `${number((part * tile.rows) / tile.threadRows)} + thread / ${number(perRow)}`;
  const columnOf = (part: number) => `${number(part * perRow)} + thread % ${number(perRow)}`;
  const sum = (row: number, part: number) => `sum_${String(row)}_${String(part)}`;
  const multiply = rowParts
    .flatMap((r) => range(4).flatMap((i) => columnParts.map((c) => `${sum(4 * r + i, c)} += left_${String(r)}.${letters[i] ?? 'x'} * right_${String(c)};`)))
    .join('\n        ');
  return `
  ${a.four} ${b.four} ${store.code}
  var<workgroup> tile_${left.name}: array<vec4<f32>, ${String(buffers * left.size)}>;
  var<workgroup> tile_${right.name}: array<vec4<f32>, ${String(buffers * right.size)}>;
  @compute @workgroup_size(${String(threads)})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    ${prologue}
    ${turns.flatMap((i) => range(4).map((c) => `var block_${String(i)}_${String(c)} = vec4<f32>();`)).join(' ')}
    ${range(tile.threadRows).flatMap((row) => columnParts.map((c) => `var ${sum(row, c)} = vec4<f32>();`)).join(' ')}
    var before = 0u;
    // A step asks for a tile, multiplies the one before it, and stages what has come.
    for (var at = begin; at < end + ${number(tile.depth)}; at += ${number(tile.depth)}) {
      if (at < end) { ${fetch('at')} }
      if (at > begin) {
        for (var depth = 0u; depth < ${number(tile.depth)}; depth++) {
          ${rowParts.map((r) => `let left_${String(r)} = tile_${left.name}[before * ${number(left.size)} + depth * ${number(left.pitch)} + ${rowOf(r)}];`).join(' ')}
          ${columnParts.map((c) => `let right_${String(c)} = tile_${right.name}[before * ${number(right.size)} + depth * ${number(right.pitch)} + ${columnOf(c)}];`).join(' ')}
          ${multiply}
        }
      }
      ${buffers === 2 ? 'let side = 1u - before;' : 'let side = 0u; workgroupBarrier();'}
      if (at < end) { ${stage} }
      workgroupBarrier();
      before = side;
    }
    ${range(tile.threadRows)
      .flatMap((row) =>
        columnParts.map(
          (c) =>
            `store(split, batch, first_row + (${rowOf(Math.floor(row / 4))}) * 4u + ${number(row % 4)}, first_column + (${columnOf(c)}) * 4u, ${sum(row, c)});`,
        ),
      )
      .join('\n    ')}
  }`;
}
