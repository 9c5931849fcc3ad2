/** What the forward and the backward pass share: how steps decay, B·C, and what tiles add to states. */
import type { GpuBinding, GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { perElement } from '../../../wgsl/per-element.js';
import {
  addProduct,
  cutCode,
  cutLength,
  eachSum,
  headTile,
  newSums,
  stepsBinding,
  stepsCode,
  tileDispatch,
  tileLength,
  type Cut,
  type Round,
} from './tiles.js';

type Sizes = 'batch' | 'length' | 'heads' | 'headSize' | 'groups' | 'stateSize' | 'chunk';
type Pitches = 'xPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch';
export type SequenceParameters = Sizes | Pitches | 'skipByFeature' | 'softplus' | 'deltaLeast' | 'deltaLargest' | 'blockHeads';
export type SequenceBuffers = 'x' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias' | 'sequenceStarts' | 'states';
type Launch = GpuLaunch<SequenceBuffers, SequenceParameters>;

/** WGSL of numbers of the sequences, at position `t` of the tile. */
export const xAt = (t: string, feature: string): string => `f32(x[p.x_at + (row + ${t}) * p.xPitch + h * p.headSize + ${feature}])`;
export const weightAt = (name: 'B' | 'C', t: string, n: string): string =>
  `f32(${name}[p.${name}_at + (row + ${t}) * p.${name === 'B' ? 'b' : 'c'}Pitch + group * p.stateSize + ${n}])`;

/** WGSL of Cₜ·Bₛ, for positions t and s of the tile. */
export const scoreAt = (t: string, s: string): string =>
  `scores[p.scores_at + ((b * p.groups + group) * p.length + first + ${t}) * ${tileLength}u + ${s}]`;

/** WGSL of D of a feature, where it is given. */
export const skipAt = (feature: string): string => `D[p.D_at + select(h, h * p.headSize + ${feature}, p.skipByFeature == 1u)]`;

/** WGSL of a number of a state before or after a tile: of a buffer [B, tiles, H, N, P], `tiles` named by the number in `p`. */
export const stateAt = (name: string, tile: string, n: string, feature: string): string =>
  `${name}[p.${name}_at + ((${tile}) * p.heads + h) * p.stateSize * p.headSize + (${n}) * p.headSize + ${feature}]`;

export const blocksOf = (extent: number): number => Math.ceil(extent / tileLength);

/** What every launch begins with: `steps` [B, H, L, 4] (`stepsCode`) and `scores` [B, G, L, 64], products of C at a position and B at those of its tile. */
export function begin({ parameters, has }: Launch) {
  const { batch, length, heads, groups, chunk } = parameters;
  const cut = cutLength({ length, chunk });
  const numbers = { tilesPerChunk: cut.tilesPerChunk, tiles: cut.tiles };
  const steps = perElement({
    variant: 'steps',
    count: batch * heads * cut.tiles,
    buffers: ['delta', 'A', ...(['deltaBias', 'sequenceStarts'] as const).filter((name) => has(name)), { name: 'steps', as: 'vec4<f32>' }],
    numbers,
    functions: `${wgslMath} ${cutCode}`,
    body: `
      let tile = i % p.tiles;
      let h = i / p.tiles % p.heads;
      let b = i / p.tiles / p.heads;
      let first = first_of(tile);
      let rows = length_of(tile);
      let rate = A[p.A_at + h] * ${Math.LOG2E};
      // A whole number, exactly, and a rest below 1: the difference of two sums is as exact as a short sum, however long they are.
      var whole = 0.0;
      var rest = 0.0;
      for (var t = 0u; t < rows; t++) {
        let row = b * p.length + first + t;
        let raw = f32(delta[p.delta_at + row * p.deltaPitch + h])${has('deltaBias') ? ' + deltaBias[p.deltaBias_at + h]' : ''};
        var step = raw;
        var slope = 1.0;
        if (p.softplus == 1u) { step = softplus(raw); slope = sigmoid(raw); }
        if (step < p.deltaLeast) { step = p.deltaLeast; slope = 0.0; }
        if (step > p.deltaLargest) { step = p.deltaLargest; slope = 0.0; }
        var exponent = step * rate;
        if (abs(exponent) > 4096.0) { exponent = 4096.0 * sign(exponent); }
        ${has('sequenceStarts') ? 'if (sequenceStarts[p.sequenceStarts_at + row] != 0) { exponent = -65536.0; }' : ''}
        rest += exponent - round(exponent);
        whole += round(exponent) + round(rest);
        rest -= round(rest);
        steps[p.steps_at + (b * p.heads + h) * p.length + first + t] = vec4<f32>(whole, rest, step, slope);
      }`,
  });
  const scores = tileDispatch({
    variant: 'scores',
    count: batch * groups * cut.tiles,
    buffers: ['B', 'C', 'scores'],
    numbers,
    functions: cutCode,
    body: `
    let tile = flat % p.tiles;
    let group = flat / p.tiles % p.groups;
    let b = flat / p.tiles / p.groups;
    let first = first_of(tile);
    let rows = length_of(tile);
    let row = b * p.length + first;
    ${newSums}
    ${addProduct('p.stateSize', ['rows', weightAt('C', 'j', 'k')], ['rows', weightAt('B', 'j', 'k')])}
    ${eachSum('rows', 'rows', `${scoreAt('i', 'j')} = value;`)}`,
  });
  const scratch = {
    steps: { dtype: 'f32' as const, size: 4 * batch * heads * length },
    scores: { dtype: 'f32' as const, size: batch * groups * length * tileLength },
  };
  return { cut, dispatches: [steps, scores], scratch };
}

/** What dispatches of a round are told. */
export const roundNumbers = ({ tilesPerChunk }: Cut, round: Round): Record<string, number> => ({ tilesPerChunk, ...round });

/**
 * What the tiles of a round add to the state after them, or backward to the gradient of the state before them: `to` [B, tiles, H, N, P],
 * Σ_k weights[k, n]·right[k, i].
 * @param right WGSL of the right factor's number at position `k`, of `feature`
 */
export function tileStates(
  { parameters }: Pick<Launch, 'parameters'>,
  cut: Cut,
  round: Round,
  options: { to: string; weights: 'B' | 'C'; from: string; right: string },
): GpuDispatch {
  const { batch, heads, headSize, stateSize } = parameters;
  const { to, weights, from, right } = options;
  const [stateBlocks, featureBlocks] = [blocksOf(stateSize), blocksOf(headSize)];
  return tileDispatch({
    variant: `states ${to}`,
    count: batch * round.roundTiles * heads * stateBlocks * featureBlocks,
    buffers: [weights, { name: from, access: 'read' }, stepsBinding, to],
    numbers: { ...roundNumbers(cut, round), stateBlocks, featureBlocks },
    functions: stepsCode,
    body: `
    ${headTile('(p.stateBlocks * p.featureBlocks)')}
    let first_state = block / p.featureBlocks * ${tileLength}u;
    let first_feature = block % p.featureBlocks * ${tileLength}u;
    let states_here = min(${tileLength}u, p.stateSize - first_state);
    let features = min(${tileLength}u, p.headSize - first_feature);
    ${newSums}
    ${addProduct('rows', ['states_here', weightAt(weights, 'k', 'first_state + j')], ['features', right])}
    ${eachSum('states_here', 'features', `${stateAt(to, 'round_tile', 'first_state + i', 'first_feature + j')} = value;`)}`,
  });
}

/** What a tile adds to the state after it. */
export const inputs = `decay(step_of(k), step_of(rows - 1u)) * step_of(k).z * ${xAt('k', 'first_feature + j')}`;

/**
 * A walk over the tiles of a round, an invocation for each number of a state. `body` is for each tile, in order or backward: `tile`, `at` (WGSL
 * of the number's place in a buffer of the round), `factor` (how much of a state remains after the tile) and `state`, kept from one to the next.
 */
export function walkTiles(
  { parameters }: Pick<Launch, 'parameters'>,
  cut: Cut,
  round: Round,
  options: { variant: string; backward: boolean; buffers: readonly (string | GpuBinding)[]; before: string; body: string; after: string },
): GpuDispatch {
  const { batch, heads, headSize, stateSize } = parameters;
  const { variant, backward, buffers, before, body, after } = options;
  return perElement({
    variant,
    count: batch * heads * headSize * stateSize,
    buffers: [stepsBinding, ...buffers],
    numbers: { ...roundNumbers(cut, round), chunks: cut.chunks, tiles: cut.tiles },
    functions: cutCode,
    body: `
      let size = p.stateSize * p.headSize;
      let number = i % size;
      let h = i / size % p.heads;
      let b = i / size / p.heads;
      // In states that callers see, a feature's numbers lie together.
      let outside = (b * p.heads + h) * size + number % p.headSize * p.stateSize + number / p.headSize;
      var state = 0.0;
      ${before}
      for (var turn = 0u; turn < p.roundTiles; turn++) {
        let of_round = ${backward ? 'p.roundTiles - 1u - turn' : 'turn'};
        let tile = p.roundFirst + of_round;
        let at = ((b * p.roundTiles + of_round) * p.heads + h) * size + number;
        let last = steps[p.steps_at + (b * p.heads + h) * p.length + first_of(tile) + length_of(tile) - 1u];
        let factor = power(last.x + last.y);
        ${body}
      }
      ${after}`,
  });
}

/** WGSL of the place of a number of the state before chunk tile / tilesPerChunk in `states`, within `walkTiles`. */
export const keptAt = 'states[p.states_at + ((b * p.chunks + tile / p.tilesPerChunk) * p.heads + h) * size + number]';
