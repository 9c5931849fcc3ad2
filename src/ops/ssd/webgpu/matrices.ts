/**
 * Products on matrix units, of which all of the operation's work is made where there are any: a workgroup has a block of the result, its subgroups
 * parts of it, and the factors come as halves through workgroup memory, a tile after another, each asked for while the one before it is multiplied.
 */
import { fold, subgroupSize, usableBytes, type GpuBinding, type GpuDispatch, type GpuFeatures, type GpuLaunch } from '../../../tensor/index.js';
import { packFours } from '../../../wgsl/eights.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { SequenceParameters } from './common.js';
import { cutLength, tileLength, type Cut } from './tiles.js';

const side = 16;
const lanes = 8;
const subgroup = 32;
/** Subgroups of a workgroup, down and across the block: two workgroups share a multiprocessor's memory, and need as many to hide what they wait for. */
const down = 4;
const across = 2;
export const threads = down * across * subgroup;

/** A workgroup's rows and columns of the result, and the depth of a tile. */
export interface Block {
  readonly rows: 64 | 128;
  readonly columns: 64 | 128;
  readonly depth: 32 | 64;
}

/** Eights of an invocation's of a block of 64 × 64: rows of it that lie `rowStep` apart. */
export const rowStep = threads / 8;
export const eachRow = (statements: (n: number) => string): string => repeat(64 / rowStep, (n) => `{ let r = thread / 8u + ${rowStep * n}u; let c = thread % 8u; ${statements(n)} }`);

/** A factor's tile: its vectors run along depth, or across it, along the result's rows or columns. */
interface Factor {
  readonly name: 'left' | 'right';
  readonly extent: number;
  readonly along: boolean;
  /** Rows of the tile, vectors of a row, and from one row to the next: one more for the banks' sake. */
  readonly rows: number;
  readonly vectors: number;
  readonly pitch: number;
}

function factorOf(name: 'left' | 'right', extent: number, depth: number, along: boolean): Factor {
  const [rows, numbers] = along ? [extent, depth] : [depth, extent];
  return { name, extent, along, rows, vectors: numbers / lanes, pitch: numbers / lanes + 1 };
}

/**
 * What asks for a tile of a factor, and what becomes of it. `load` are statements that may set `eight` (vec4<u32>, zeros otherwise), `factor` and `other` (1 otherwise), as they
 * are in memory, so that nothing waits for them yet, of the
 * vector `c` of the tile's row `r`, for the tile's number `turn`; `put` are statements that may change `eight` on its way to workgroup memory, and by default multiply it by
 * `factor`, the product of the two, which is left out where `scaled` is false.
 */
export interface Side {
  readonly along: boolean;
  /** Statements before all of an invocation's loads of a turn. */
  readonly before?: string;
  readonly load: string;
  readonly scaled?: boolean;
  readonly put?: string;
}

/** The code of a block's products, in parts. */
export class Products {
  readonly #block: Block;
  readonly #left: Factor;
  readonly #right: Factor;

  constructor(block: Block, left: boolean, right: boolean) {
    this.#block = block;
    this.#left = factorOf('left', block.rows, block.depth, left);
    this.#right = factorOf('right', block.columns, block.depth, right);
  }
  /** Vectors of workgroup memory, for tiles alone. */
  get vectors(): number {
    return this.#left.rows * this.#left.pitch + this.#right.rows * this.#right.pitch;
  }

  /**
   * Statements that add up products of tiles 0 … count − 1, `count` WGSL of what all invocations have.
   * @param hooks `fetch`: statements before a tile is asked for; `stage`: statements that go with a tile on its way to workgroup memory; `after`: statements after its products, `turn` the tile's number
   */
  add(count: string, sides: { readonly left: Side; readonly right: Side }, { fetch = '', stage = '', after = '' } = {}): string {
    const factors = [this.#left, this.#right].map((factor) => ({ ...factor, ...sides[factor.name] }));
    const vectorsOf = ({ rows, vectors }: Factor) => Math.ceil((rows * vectors) / threads);
    const each = (statements: (factor: Factor & Side, i: number, at: string) => string) =>
      factors
        .map((factor) =>
          repeat(vectorsOf(factor), (i) => {
            const guard = (i + 1) * threads <= factor.rows * factor.vectors ? '' : `if (id < ${factor.rows * factor.vectors}u) `;
            return `{ let id = thread + ${i * threads}u; let r = id / ${factor.vectors}u; let c = id % ${factor.vectors}u; ${guard}{ ${statements(factor, i, `${factor.name}_${i}`)} } }`;
          }),
        )
        .join('\n');
    const declared = factors.map((factor) => repeat(vectorsOf(factor), (i) => `var ${factor.name}_${i} = vec4<u32>(); var ${factor.name}_factor_${i} = 1.0; var ${factor.name}_other_${i} = 1.0;`)).join('\n');
    return `
    {
      ${declared}
      let turns = ${count};
      for (var next = 0u; next <= turns; next++) {
        if (next < turns) {
          let turn = next;
          ${fetch}
          ${factors.map(({ before = '' }) => before).join('\n')}
          ${each(({ load, name, scaled }, i, at) => `var eight = vec4<u32>(); var factor = 1.0; var other = 1.0; ${load} ${at} = eight; ${scaled === false ? '' : `${name}_factor_${i} = factor; ${name}_other_${i} = other;`}`)}
        }
        if (next > 0u) {
          let turn = next - 1u;
          ${this.#multiply()}
          ${after}
        }
        workgroupBarrier();
        if (next < turns) {
          let turn = next;
          ${stage}
          ${each(({ put, scaled, name, pitch }, i, at) => {
            const offset = name === 'left' ? 0 : this.#left.rows * this.#left.pitch;
            return `var eight = ${at}; ${scaled === false ? '' : `let factor = ${name}_factor_${i} * ${name}_other_${i};`} ${put ?? (scaled === false ? '' : 'eight = scaled(eight, factor);')} memory[${offset}u + r * ${pitch}u + c] = eight;`;
          })}
        }
        workgroupBarrier();
      }
    }`;
  }

  /** Statements that declare the sums. */
  get declare(): string {
    return this.#eachSum((i, j) => `var sum_${i}_${j} = subgroup_matrix_result<f32, 16, 16>();`);
  }

  get clear(): string {
    return this.#eachSum((i, j) => `sum_${i}_${j} = subgroup_matrix_result<f32, 16, 16>();`);
  }

  /** Statements for each matrix of sums; `row` and `column` are WGSL of its first within the block. */
  each(statements: (sum: string, row: string, column: string) => string): string {
    const { rows, columns } = this.#block;
    return this.#eachSum((i, j) =>
      statements(`sum_${i}_${j}`, `(subgroup_row * ${rows / down}u + ${i * side}u)`, `(subgroup_column * ${columns / across}u + ${j * side}u)`),
    );
  }

  /** Vectors of f32 from one row of the block to the next in workgroup memory, and of the rows that are there at a time. */
  get #stripPitch(): number {
    return this.#block.columns / 4 + 1;
  }

  get stripVectors(): number {
    return rowStep * this.#stripPitch;
  }

  /**
   * Puts the sums into workgroup memory in place of tiles, some rows at a time, and runs statements for each eight of an invocation: `first_sums` and `second_sums`,
   * of row `r` and columns 8·c on; c is the same for all of an invocation's. Of blocks of 64 columns.
   */
  eights(statements: (n: number) => string): string {
    const { rows } = this.#block;
    const together = (rowStep * down) / rows;
    return repeat(rows / rowStep, (n) => `
    workgroupBarrier();
    if (subgroup_row / ${together}u == ${n}u) {
      ${this.each((sum, row, column) => `subgroupMatrixStore<row_major>(&memory, (${row} - ${n * rowStep}u) * ${this.#stripPitch}u + ${column} / 4u, ${sum}, ${this.#stripPitch}u);`)}
    }
    workgroupBarrier();
    {
      let r = thread / 8u + ${n * rowStep}u;
      let c = thread % 8u;
      let first_sums = bitcast<vec4<f32>>(memory[thread / 8u * ${this.#stripPitch}u + 2u * c]);
      let second_sums = bitcast<vec4<f32>>(memory[thread / 8u * ${this.#stripPitch}u + 2u * c + 1u]);
      ${statements(n)}
    }`);
  }

  #eachSum(statements: (i: number, j: number) => string): string {
    const { rows, columns } = this.#block;
    return repeat(rows / down / side, (i) => repeat(columns / across / side, (j) => statements(i, j)));
  }

  #multiply(): string {
    const { rows, columns, depth } = this.#block;
    const load = ({ name, along, pitch }: Factor, i: number, s: number) => {
      const [which, half, offset] = name === 'left' ? ['subgroup_row', rows / down, 0] : ['subgroup_column', columns / across, this.#left.rows * this.#left.pitch];
      const at = along
        ? `${offset}u + (${which} * ${half}u + ${i * side}u) * ${pitch}u + ${(s * side) / lanes}u`
        : `${offset}u + ${s * side * pitch}u + (${which} * ${half}u + ${i * side}u) / ${lanes}u`;
      return `subgroupMatrixLoad<subgroup_matrix_${name}<f16, 16, 16>, ${along === (name === 'left') ? 'row_major' : 'col_major'}>(&memory, ${at}, ${pitch}u)`;
    };
    return repeat(depth / side, (s) => `{
      ${repeat(rows / down / side, (i) => `let a_${i} = ${load(this.#left, i, s)};`)}
      ${repeat(columns / across / side, (j) => `{ let b = ${load(this.#right, j, s)};
        ${repeat(rows / down / side, (i) => `sum_${i}_${j} = subgroupMatrixMultiplyAccumulate(a_${i}, b, sum_${i}_${j});`)} }`)}
    }`);
  }
}

const compiledIn = new Set(['heads', 'headSize', 'groups', 'stateSize', 'chunk', 'xPitch', 'zPitch', 'bPitch', 'cPitch', 'dyPitch', 'skipByFeature', 'tilesPerChunk', 'stateBlocks', 'featureBlocks', 'pairs']);

/** Eights of halves times numbers. */
export const scaledCode = `
  fn scaled(eight: vec4<u32>, factor: f32) -> vec4<u32> {
    return vec4<u32>(
      pack2x16float(factor * unpack2x16float(eight.x)), pack2x16float(factor * unpack2x16float(eight.y)),
      pack2x16float(factor * unpack2x16float(eight.z)), pack2x16float(factor * unpack2x16float(eight.w)));
  }
  fn first_four(eight: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y)); }
  fn second_four(eight: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w)); }
  fn weighted(eight: vec4<u32>, a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
    let first = a * first_four(eight);
    let second = b * second_four(eight);
    return ${packFours('first', 'second')};
  }
  fn bounded(four: vec4<f32>) -> vec4<f32> { return select(four, clamp(four, vec4<f32>(-65504.0), vec4<f32>(65504.0)), abs(four) > vec4<f32>(65504.0)); }`;

/**
 * A dispatch of `count` workgroups. What follows from a model's sizes is compiled in: `constants` of the kernel's parameters and of `numbers`. `body` has `flat`, the workgroup's number, `thread`,
 * `subgroup_row` and `subgroup_column`.
 */
export function matrixDispatch(options: {
  variant: string;
  count: number;
  buffers: readonly (string | GpuBinding)[];
  numbers: Readonly<Record<string, number>>;
  functions: string;
  vectors: number;
  body: string;
  parameters: Readonly<Record<string, number>>;
}): GpuDispatch {
  const { variant, count, buffers, numbers, functions, vectors, body, parameters } = options;
  const constants = new Map(Object.entries({ ...parameters, ...numbers }).filter(([name]) => compiledIn.has(name)));
  const literal = (read: string, name: string) => (constants.has(name) ? `${String(constants.get(name))}u` : read);
  return {
    variant: `matrices ${variant} ${[...constants.values()].join(' ')}`,
    buffers,
    numbers: { ...numbers, workgroups: count },
    workgroups: count === 0 ? [0] : fold(count),
    code: () =>
      `
  ${scaledCode}
  ${functions}
  var<workgroup> memory: array<vec4<u32>, ${vectors}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.workgroups) { return; }
    let subgroup_row = thread / ${across * subgroup}u;
    let subgroup_column = thread / ${subgroup}u % ${across}u;
    ${body}
  }`.replace(/\bp\.(\w+)/g, literal),
  };
}

/** Whether matrix units can do it: `names` are read in vectors of eight, `pitches` apart. */
export function haveMatrices<B extends string>(
  { gpu, parameters, dtype, aligned }: GpuLaunch<B, SequenceParameters>,
  { halves, names, pitches }: { readonly halves: readonly B[]; readonly names: readonly B[]; readonly pitches: readonly number[] },
): boolean {
  const { length, chunk, headSize, stateSize } = parameters;
  return (
    gpu.matrices &&
    subgroupSize(gpu) === subgroup &&
    halves.every((name) => dtype(name) === 'f16') &&
    length >= 32 &&
    chunk % tileLength === 0 &&
    headSize % side === 0 &&
    stateSize % side === 0 &&
    pitches.every((pitch) => pitch % lanes === 0) &&
    aligned(lanes, ...names)
  );
}

/** A range of chunks, with its tiles. */
export interface ChunkRound {
  readonly firstChunk: number;
  readonly roundChunks: number;
  readonly firstTile: number;
  readonly roundTiles: number;
}

/** Numbers of a round's states in one buffer, 64 MiB, where as much can be bound. */
const mostNumbers = 2 ** 24;

/** How a launch is cut, and its rounds; `numbers` in memory for each chunk. */
export function cutAndRounds(gpu: GpuFeatures, parameters: { readonly length: number; readonly chunk: number }, numbers: number): { cut: Cut; rounds: ChunkRound[] } {
  const cut = cutLength(parameters);
  const { chunks, tilesPerChunk, tiles } = cut;
  const each = Math.max(1, Math.floor(Math.min(mostNumbers, usableBytes(gpu) / 4) / numbers));
  const rounds = Array.from({ length: Math.ceil(chunks / each) }, (_, i) => {
    const firstChunk = i * each;
    const end = Math.min(chunks, firstChunk + each);
    const firstTile = firstChunk * tilesPerChunk;
    return { firstChunk, roundChunks: end - firstChunk, firstTile, roundTiles: Math.min(tiles, end * tilesPerChunk) - firstTile };
  });
  return { cut, rounds };
}
