/**
 * Sums of products of matrices with at most 64 rows and columns, as all of the operation's work is made of, on any GPU: a workgroup has a tile of
 * the result, 4×4 numbers an invocation, and the factors come through workgroup memory 16 deep.
 */
import { fold, usableBytes, type GpuBinding, type GpuDispatch, type GpuFeatures } from '../../../tensor/index.js';

/** Positions of a tile at most, and rows and columns of what a workgroup works out. */
export const tileLength = 64;
const depth = 16;
const threads = 256;

/** How positions are cut: into chunks, as states are kept, and those into tiles. */
export interface Cut {
  readonly chunks: number;
  readonly tilesPerChunk: number;
  readonly tiles: number;
}

export function cutLength({ length, chunk }: { readonly length: number; readonly chunk: number }): Cut {
  const chunks = Math.ceil(length / chunk);
  const tilesPerChunk = Math.ceil(chunk / tileLength);
  return { chunks, tilesPerChunk, tiles: (chunks - 1) * tilesPerChunk + Math.ceil((length - (chunks - 1) * chunk) / tileLength) };
}

/** WGSL of the first position of a tile of a sequence, and of its length; and of a power of 2, 0 where float32 ends. */
export const cutCode = `
  fn first_of(tile: u32) -> u32 { return tile / p.tilesPerChunk * p.chunk + tile % p.tilesPerChunk * ${tileLength}u; }
  fn length_of(tile: u32) -> u32 {
    let first = first_of(tile);
    return min(min(${tileLength}u, (tile / p.tilesPerChunk + 1u) * p.chunk - first), p.length - first);
  }
  fn power(x: f32) -> f32 { return select(exp2(x), 0.0, x < -126.0); }`;

/**
 * `step_of(at)`: of a head at position at of its tile, (whole, rest, Δ, slope of Δ by delta), where whole + rest is the sum of Δ·A·log₂e from the
 * tile's first position to this; and `decay(from, to)` from one position to a later one. `stepsFirst` comes first.
 */
export const stepsCode = `
  ${cutCode}
  var<private> steps_first: u32;
  fn step_of(at: u32) -> vec4<f32> { return steps[steps_first + at]; }
  fn from_start(to: vec4<f32>) -> f32 { return power(to.x + to.y); }
  fn decay(before: vec4<f32>, after: vec4<f32>) -> f32 { return power((after.x - before.x) + (after.y - before.y)); }`;
export const stepsFirst = 'steps_first = p.steps_at + (b * p.heads + h) * p.length + first;';
export const stepsBinding: GpuBinding = { name: 'steps', as: 'vec4<f32>', access: 'read' };

/** Statements that declare the sums and set them to 0. */
export const newSums = 'var sums0 = vec4<f32>(); var sums1 = vec4<f32>(); var sums2 = vec4<f32>(); var sums3 = vec4<f32>();';

/**
 * Statements that add a product to the sums.
 * @param extent WGSL of the product's depth, the same for the whole workgroup
 * @param left WGSL of the left factor's number at row `j`, depth `k`
 * @param right WGSL of the right factor's number at depth `k`, column `j`
 */
export const addProduct = (extent: string, [rows, left]: readonly [string, string], [columns, right]: readonly [string, string]): string => `
    for (var k0 = 0u; k0 < ${extent}; k0 += ${depth}u) {
      workgroupBarrier();
      let k = k0 + thread / 16u;
      let j0 = 4u * (thread % 16u);
      var for_left = vec4<f32>();
      var for_right = vec4<f32>();
      if (k < ${extent}) {
        for (var j = j0; j < min(j0 + 4u, ${rows}); j++) { for_left[j - j0] = ${left}; }
        for (var j = j0; j < min(j0 + 4u, ${columns}); j++) { for_right[j - j0] = ${right}; }
      }
      left_factor[thread] = for_left;
      right_factor[thread] = for_right;
      workgroupBarrier();
      for (var d = 0u; d < min(${depth}u, ${extent} - k0); d++) {
        let a = left_factor[16u * d + thread / 16u];
        let c = right_factor[16u * d + thread % 16u];
        sums0 += a.x * c;
        sums1 += a.y * c;
        sums2 += a.z * c;
        sums3 += a.w * c;
      }
    }`;

/** Statements for each of an invocation's sums: `value`, at row `i` and column `j`, `r` the row's number among its four. */
export const eachSum = (rows: string, columns: string, statements: string): string => `
    for (var i = 4u * (thread / 16u); i < min(4u * (thread / 16u) + 4u, ${rows}); i++) {
      let r = i % 4u;
      var four = sums0;
      if (r == 1u) { four = sums1; } else if (r == 2u) { four = sums2; } else if (r == 3u) { four = sums3; }
      for (var j = 4u * (thread % 16u); j < min(4u * (thread % 16u) + 4u, ${columns}); j++) {
        let value = four[j % 4u];
        ${statements}
      }
    }`;

/** Statements after which invocation i < 64 has in `total` the sum of row i, of which each invocation has its four rows' shares in `shares`. */
export const rowTotals = (shares: string, total: string): string => `
    workgroupBarrier();
    left_factor[thread] = ${shares};
    workgroupBarrier();
    var ${total} = 0.0;
    if (thread < ${tileLength}u) {
      for (var n = 0u; n < 16u; n++) { ${total} += left_factor[thread / 4u * 16u + n][thread % 4u]; }
    }`;

/** A dispatch of `count` workgroups. `body` has `flat`, the workgroup's number, and `thread`. */
export function tileDispatch(options: {
  variant: string;
  count: number;
  buffers: readonly (string | GpuBinding)[];
  numbers: Readonly<Record<string, number>>;
  functions: string;
  body: string;
}): GpuDispatch {
  const { variant, count, buffers, numbers, functions, body } = options;
  return {
    variant,
    buffers,
    numbers: { ...numbers, workgroups: count },
    workgroups: count === 0 ? [0] : fold(count),
    code: () => `
  ${functions}
  var<workgroup> left_factor: array<vec4<f32>, ${threads}>;
  var<workgroup> right_factor: array<vec4<f32>, ${threads}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.workgroups) { return; }
    ${body}
  }`,
  };
}

/** Statements from `flat` to a tile of a round and a head: b, tile, round_tile (counted over sequences), h, first, rows, group; and `block` below `blocks`. */
export const headTile = (blocks = '1u'): string => `
    let block = flat % ${blocks};
    let h = flat / ${blocks} % p.heads;
    let round_tile = flat / ${blocks} / p.heads;
    let tile = p.roundFirst + round_tile % p.roundTiles;
    let b = round_tile / p.roundTiles;
    let first = first_of(tile);
    let rows = length_of(tile);
    let row = b * p.length + first;
    let group = h * p.groups / p.heads;
    ${stepsFirst}`;

/** Numbers of a round's tiles in one buffer, 64 MiB, where as much can be bound. */
const mostNumbers = 2 ** 24;

/** A range of chunks. */
export interface Round {
  readonly roundFirst: number;
  readonly roundTiles: number;
}

/** The chunks in ranges whose tiles, with `numbers` in memory each, are bounded. */
export function roundsOf(gpu: GpuFeatures, { chunks, tilesPerChunk, tiles }: Cut, numbers: number): Round[] {
  const most = Math.min(mostNumbers, usableBytes(gpu) / 4);
  const each = Math.max(1, Math.floor(most / (numbers * tilesPerChunk)));
  return Array.from({ length: Math.ceil(chunks / each) }, (_, i) => {
    const roundFirst = i * each * tilesPerChunk;
    return { roundFirst, roundTiles: Math.min(tiles, roundFirst + each * tilesPerChunk) - roundFirst };
  });
}
