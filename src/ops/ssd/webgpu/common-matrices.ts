/** What the forward and the backward pass share on matrix units: how steps decay, C·Bᵀ, what chunks add to states, and the walk over chunks. */
import { fold, type GpuBinding, type GpuDispatch, type GpuLaunch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { perElement } from '../../../wgsl/per-element.js';
import { repeat } from '../../../wgsl/vectors.js';
import { eights, packFours } from '../../../wgsl/eights.js';
import type { SequenceBuffers, SequenceParameters } from './common.js';
import { matrixDispatch, Products, type ChunkRound } from './matrices.js';
import { cutCode, tileLength, type Cut } from './tiles.js';

type Launch = GpuLaunch<SequenceBuffers, SequenceParameters>;

/** Positions of a chunk at most. */
const mostPositions = 256;

export const reading = (...names: readonly string[]): GpuBinding[] => names.map((name) => ({ name, access: 'read' as const }));
export const stepsBinding: GpuBinding = { name: 'steps', as: 'vec4<f32>', access: 'read' };
export const factorsBinding: GpuBinding = { name: 'factors', as: 'vec4<f32>', access: 'read' };
/** Eights of halves that other dispatches wrote. */
export const halvesOf = (name: string, access: 'read' | 'read_write' = 'read'): GpuBinding => ({ name, as: 'vec4<u32>', access });

/** WGSL of a head's vectors of `steps` and `factors` at a position of the sequence. */
export const stepAt = (position: string): string => `steps[p.steps_at + (b * p.heads + h) * p.length + ${position}]`;
/**
 * How much of a state remains: x from before the chunk to the position, y from the position to the chunk's end, z from it to its tile's end, w from before its tile to
 * the position.
 */
export const factorAt = (position: string): string => `factors[p.factors_at + (b * p.heads + h) * p.length + ${position}]`;

/** How eights of x, B, C and the like are read. */
export function operandEights({ dtype }: Launch) {
  return { x: eights('x', dtype('x'), 'p.xPitch'), B: eights('B', dtype('B'), 'p.bPitch'), C: eights('C', dtype('C'), 'p.cPitch') };
}

export const cutNumbers = ({ tilesPerChunk, tiles, chunks }: Cut): Record<string, number> => ({ tilesPerChunk, tiles, chunks });

export const padded = (extent: number): number => Math.ceil(extent / tileLength) * tileLength;
export const blocksOf = (extent: number): number => Math.ceil(extent / tileLength);

/** Statements from `flat` to a tile of a round and a head: b, tile, chunk, own (its number in the chunk), place (of the chunk in buffers of the round), h, first, rows, group. */
export const headTile = (blocks: string): string => `
    let block = flat % ${blocks};
    let h = flat / ${blocks} % p.heads;
    let of_round = flat / ${blocks} / p.heads % p.roundTiles;
    let b = flat / ${blocks} / p.heads / p.roundTiles;
    let tile = p.firstTile + of_round;
    let chunk = tile / p.tilesPerChunk;
    let own = tile % p.tilesPerChunk;
    let place = b * p.roundChunks + chunk - p.firstChunk;
    let first = first_of(tile);
    let rows = length_of(tile);
    let group = h * p.groups / p.heads;`;

/** Where an eight of C·Bᵀ, or of another matrix [B, G, L, chunk], lies: of position `t` and the chunk's tile `j`. */
export const squareAt = (name: string, t: string, j: string): string =>
  `p.${name}_at + ((b * p.groups + group) * p.length + ${t}) * (p.tilesPerChunk * ${tileLength / 8}u) + ${j} * ${tileLength / 8}u + c`;

/** Statements from `flat`, which counts pairs of tiles of the chunks of groups, to the chunk's later tile i and earlier tile j; `first` and `rows` are the later one's. */
export const pairCode = `
    let pair = flat % p.pairs;
    let chunk = flat / p.pairs % p.chunks;
    let group = flat / p.pairs / p.chunks % p.groups;
    let b = flat / p.pairs / p.chunks / p.groups;
    var i = 0u;
    while ((i + 1u) * (i + 2u) / 2u <= pair) { i++; }
    let j = pair - i * (i + 1u) / 2u;
    let later = chunk * p.tilesPerChunk + i;
    let earlier = chunk * p.tilesPerChunk + j;
    if (later >= p.tiles) { return; }
    let first = first_of(later);
    let rows = length_of(later);`;
export const pairsOf = ({ tilesPerChunk }: Cut): number => (tilesPerChunk * (tilesPerChunk + 1)) / 2;

/** `steps` [B, H, L, 4], as in `stepsCode` but summed from the chunk's first position, and `factors` [B, H, L, 4] (`factorAt`). */
export function steps({ parameters, has }: Launch, cut: Cut): GpuDispatch {
  const { batch, heads } = parameters;
  const count = batch * heads * cut.chunks;
  return {
    variant: 'steps of chunks',
    buffers: ['delta', 'A', ...(['deltaBias', 'sequenceStarts'] as const).filter((name) => has(name)), { name: 'steps', as: 'vec4<f32>' }, { name: 'factors', as: 'vec4<f32>' }],
    numbers: { ...cutNumbers(cut), workgroups: count },
    workgroups: count === 0 ? [0] : fold(count),
    code: () => `
  ${wgslMath} ${cutCode}
  // A whole number, exactly, and a rest below 1: the difference of two sums is as exact as a short sum, however long they are.
  var<workgroup> sums: array<vec2<f32>, ${mostPositions}>;
  fn between(before: vec2<f32>, after: vec2<f32>) -> f32 { return power((after.x - before.x) + (after.y - before.y)); }
  @compute @workgroup_size(${mostPositions})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.workgroups) { return; }
    let h = flat % p.heads;
    let chunk = flat / p.heads % p.chunks;
    let b = flat / p.heads / p.chunks;
    let first = chunk * p.chunk;
    let rows = min(p.chunk, p.length - first);
    let live = thread < rows;
    let row = b * p.length + first + min(thread, rows - 1u);
    let raw = f32(delta[p.delta_at + row * p.deltaPitch + h])${has('deltaBias') ? ' + deltaBias[p.deltaBias_at + h]' : ''};
    var step = raw;
    var slope = 1.0;
    if (p.softplus == 1u) { step = softplus(raw); slope = sigmoid(raw); }
    if (step < p.deltaLeast) { step = p.deltaLeast; slope = 0.0; }
    if (step > p.deltaLargest) { step = p.deltaLargest; slope = 0.0; }
    var exponent = step * A[p.A_at + h] * ${Math.LOG2E};
    if (abs(exponent) > 4096.0) { exponent = 4096.0 * sign(exponent); }
    ${has('sequenceStarts') ? 'if (sequenceStarts[p.sequenceStarts_at + row] != 0) { exponent = -65536.0; }' : ''}
    if (!live) { exponent = 0.0; }
    var sum = vec2<f32>(round(exponent), exponent - round(exponent));
    for (var distance = 1u; distance < ${mostPositions}u; distance *= 2u) {
      sums[thread] = sum;
      workgroupBarrier();
      if (thread >= distance) {
        sum += sums[thread - distance];
        let carried = round(sum.y);
        sum += vec2<f32>(carried, -carried);
      }
      workgroupBarrier();
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (!live) { return; }
    let tile_first = thread - thread % ${tileLength}u;
    let tile_last = min(tile_first + ${tileLength - 1}u, rows - 1u);
    var before_tile = vec2<f32>();
    if (tile_first > 0u) { before_tile = sums[tile_first - 1u]; }
    let at = (b * p.heads + h) * p.length + first + thread;
    steps[p.steps_at + at] = vec4<f32>(sum, step, slope);
    factors[p.factors_at + at] = vec4<f32>(between(vec2<f32>(), sum), between(sum, sums[rows - 1u]), between(sum, sums[tile_last]), between(before_tile, sum));
  }`,
  };
}

/** `scores` [B, G, L, chunk] in halves: C at a position times B at those of its chunk, in tiles up to its own. */
export function scores(launch: Launch, cut: Cut): GpuDispatch {
  const { batch, groups, stateSize } = launch.parameters;
  const { B, C } = operandEights(launch);
  const products = new Products({ rows: 64, columns: 64, depth: 64 }, true, true);
  const load = (name: 'B' | 'C', tile: string) => ({
    along: true,
    scaled: false,
    load: `{ let t = first_of(${tile}) + r; let n = turn * ${tileLength}u + 8u * c;
      if (r < length_of(${tile}) && n < p.stateSize) { eight = ${name}_eight(b * p.length + t, (group * p.stateSize + n) / 8u); } }`,
  });
  return matrixDispatch({
    parameters: launch.parameters,
    variant: 'scores',
    count: batch * groups * cut.chunks * pairsOf(cut),
    buffers: [B.binding, C.binding, halvesOf('scores', 'read_write')],
    numbers: { ...cutNumbers(cut), pairs: pairsOf(cut) },
    functions: `${cutCode} ${B.read} ${C.read}`,
    vectors: Math.max(products.vectors, products.stripVectors),
    body: `${pairCode}
    ${products.declare}
    ${products.add(`${blocksOf(stateSize)}u`, { left: load('C', 'later'), right: load('B', 'earlier') })}
    ${products.eights(() => `if (r < rows) { let one = bounded(first_sums); let two = bounded(second_sums); scores[${squareAt('scores', '(first_of(later) + r)', 'j')}] = ${packFours('one', 'two')}; }`)}`,
  });
}

/**
 * `added` [B, chunks of the round, H, N, P]: what each chunk adds to the state after it, or backward to the gradient of the state before it, Σ_k weights[k, n]·from[k, i]·factor.
 * @param options.factor statements that set the factor at position `t`
 */
export function chunkStates(launch: Launch, cut: Cut, round: ChunkRound, options: { weights: 'B' | 'C'; from: ReturnType<typeof eights>; name: string; factor: string }): GpuDispatch {
  const { batch, heads, headSize, stateSize } = launch.parameters;
  const { weights, from, name, factor } = options;
  const ofWeights = operandEights(launch)[weights];
  const rows = stateSize > 64 ? 128 : 64;
  const products = new Products({ rows, columns: 64, depth: 32 }, false, false);
  const [stateBlocks, featureBlocks] = [Math.ceil(stateSize / rows), blocksOf(headSize)];
  const position = 'let t = turn * 32u + r;';
  return matrixDispatch({
    parameters: launch.parameters,
    variant: `states ${weights} ${rows}`,
    count: batch * round.roundChunks * heads * stateBlocks * featureBlocks,
    buffers: [ofWeights.binding, from.binding, stepsBinding, factorsBinding, { name: 'added', as: 'vec4<f32>' }],
    numbers: { ...cutNumbers(cut), ...round, stateBlocks, featureBlocks },
    functions: `${ofWeights.read} ${from.read}`,
    vectors: products.vectors,
    body: `
    let first_feature = flat % p.featureBlocks * ${tileLength}u;
    let h = flat / p.featureBlocks % p.heads;
    let first_state = flat / p.featureBlocks / p.heads % p.stateBlocks * ${rows}u;
    let place = flat / p.featureBlocks / p.heads / p.stateBlocks;
    let b = place / p.roundChunks;
    let first = (p.firstChunk + place % p.roundChunks) * p.chunk;
    let positions = min(p.chunk, p.length - first);
    let group = h * p.groups / p.heads;
    ${products.declare}
    ${products.add('(positions + 31u) / 32u', {
      left: {
        along: false,
        scaled: false,
        load: `{ ${position} let n = first_state + 8u * c; if (t < positions && n < p.stateSize) { eight = ${weights}_eight(b * p.length + first + t, (group * p.stateSize + n) / 8u); } }`,
      },
      right: {
        along: false,
        load: `{ ${position} let e = first_feature + 8u * c; if (t < positions && e < p.headSize) { eight = ${name}_eight(b * p.length + first + t, (h * p.headSize + e) / 8u); ${factor} } }`,
      },
    })}
    ${products.each((sum, row, column) => `if (first_state + ${row} < p.stateSize && first_feature + ${column} < p.headSize) {
      subgroupMatrixStore<row_major>(&added, p.added_at + (((place * p.heads + h) * p.stateSize + first_state + ${row}) * p.headSize + first_feature + ${column}) / 4u, ${sum}, p.headSize / 4u);
    }`)}`,
  });
}

/** Chunks whose numbers an invocation of the walk asks for at once. */
const ahead = 8;

/**
 * A walk over a round's chunks, four neighbouring features of a state an invocation. `begin` may set `state`, `each` is for each chunk, in order or backward: `chunk`, `at` (WGSL
 * of the four's place in a buffer [B, chunks of the round, H, N, P]), `factor` (how much of a state remains after the chunk), `more` (what it adds), `state`, and `kept`, the four in the
 * buffer of that name, [B, chunks, H, N, P].
 */
export function walkChunks(
  { parameters }: Pick<Launch, 'parameters'>,
  cut: Cut,
  round: ChunkRound,
  options: { variant: string; backward: boolean; buffers: readonly (string | GpuBinding)[]; begin: string; kept?: string; each: string; end: string },
): GpuDispatch {
  const { batch, heads, headSize, stateSize } = parameters;
  const { variant, backward, buffers, begin, kept, each, end } = options;
  return perElement({
    variant: `matrices ${variant}`,
    count: (batch * heads * headSize * stateSize) / 4,
    buffers: [factorsBinding, { name: 'added', as: 'vec4<f32>', access: 'read' }, ...buffers],
    numbers: { ...cutNumbers(cut), ...round },
    functions: 'fn bounded(four: vec4<f32>) -> vec4<f32> { return select(four, clamp(four, vec4<f32>(-65504.0), vec4<f32>(65504.0)), abs(four) > vec4<f32>(65504.0)); }',
    body: `
      let size = p.stateSize * p.headSize / 4u;
      let number = i % size;
      let h = i / size % p.heads;
      let b = i / size / p.heads;
      // In states that callers see, a feature's numbers lie together.
      let outside = (b * p.heads + h) * p.stateSize * p.headSize + 4u * number % p.headSize * p.stateSize + 4u * number / p.headSize;
      var state = vec4<f32>();
      ${begin}
      for (var turn = 0u; turn < p.roundChunks; turn += ${ahead}u) {
        ${repeat(ahead, (n) => `
        let turn_${n} = min(turn + ${n}u, p.roundChunks - 1u);
        let of_round_${n} = ${backward ? `p.roundChunks - 1u - turn_${n}` : `turn_${n}`};
        let at_${n} = ((b * p.roundChunks + of_round_${n}) * p.heads + h) * size + number;
        let more_${n} = added[p.added_at + at_${n}];
        ${kept === undefined ? '' : `let kept_${n} = ${kept}[p.${kept}_at + ((b * p.chunks + p.firstChunk + of_round_${n}) * p.heads + h) * size + number];`}
        let factor_${n} = factors[p.factors_at + (b * p.heads + h) * p.length + min((p.firstChunk + of_round_${n} + 1u) * p.chunk, p.length) - 1u].x;`)}
        ${repeat(ahead, (n) => `if (turn + ${n}u < p.roundChunks) {
          let chunk = p.firstChunk + of_round_${n}; let at = at_${n}; let more = more_${n}; let factor = factor_${n}; ${kept === undefined ? '' : `let kept = kept_${n};`}
          ${each}
        }`)}
      }
      ${end}`,
  });
}

/** WGSL that reads four numbers of a state that callers see, and writes them. */
export const outsideFour = (name: string): string =>
  `vec4<f32>(${[0, 1, 2, 3].map((k) => `${name}[p.${name}_at + outside + ${k}u * p.stateSize]`).join(', ')})`;
export const putOutside = (name: string): string => [0, 1, 2, 3].map((k) => `${name}[p.${name}_at + outside + ${k}u * p.stateSize] = state[${k}];`).join(' ');
