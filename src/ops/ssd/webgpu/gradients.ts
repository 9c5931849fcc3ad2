/** Gradients that are products of matrices. */
import type { GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import type { BackwardLaunch } from './backward.js';
import { blocksOf, roundNumbers, scoreAt, skipAt, stateAt, weightAt, xAt } from './common.js';
import { earlierPositions, ownPositions } from './forward.js';
import {
  addProduct,
  eachSum,
  headTile,
  newSums,
  rowTotals,
  stepsBinding,
  stepsCode,
  stepsFirst,
  tileDispatch,
  tileLength,
  type Cut,
  type Round,
} from './tiles.js';

/** The tiles of a round, and where the states before them are: a buffer [·, H, N, P], and WGSL of a tile's number in it. */
export interface Tiles {
  readonly launch: BackwardLaunch;
  readonly cut: Cut;
  readonly round: Round;
  readonly before: 'before' | 'states';
  readonly beforeTile: string;
}

/** Numbers of `p` for code that reads states, too. */
export const tileNumbers = ({ cut, round }: Tiles): Record<string, number> => ({ ...roundNumbers(cut, round), chunks: cut.chunks });
export const reading = (...names: readonly string[]) => names.map((name) => ({ name, access: 'read' as const }));

export const riseAt = (t: string, feature: string): string => `rises[p.rises_at + ((row + ${t}) * p.heads + h) * p.headSize + ${feature}]`;
/** WGSL of how much x at s moves y at t: Δ, decay and dy·x, 0 for s after t. */
export const pairAt = (t: string, s: string): string => `pairs[p.pairs_at + ((round_tile * p.heads + h) * ${tileLength}u + ${t}) * ${tileLength}u + ${s}]`;
/** WGSL of one of the sums of a head at a position: x·dx̃ in all, its part through the state after the tile, dy·y through the state before it. */
export const sumAt = (t: string, which: number): string => `sums[p.sums_at + 3u * ((b * p.heads + h) * p.length + first + ${t}) + ${which}u]`;

export function pairs(tiles: Tiles): GpuDispatch {
  const { batch, heads } = tiles.launch.parameters;
  return tileDispatch({
    variant: 'pairs',
    count: batch * tiles.round.roundTiles * heads,
    buffers: ['x', ...reading('rises'), stepsBinding, 'pairs'],
    numbers: tileNumbers(tiles),
    functions: stepsCode,
    body: `
    ${headTile()}
    ${newSums}
    ${addProduct('p.headSize', ['rows', riseAt('j', 'k')], ['rows', xAt('j', 'k')])}
    ${eachSum('rows', 'rows', `${pairAt('i', 'j')} = select(0.0, value * decay(step_of(j), step_of(i)) * step_of(j).z, j <= i);`)}`,
  });
}

/** Statements for each block of a head's features, one after the other: their sums over features need no parts. */
const eachFeatureBlock = (statements: string): string => `
    for (var first_feature = 0u; first_feature < p.headSize; first_feature += ${tileLength}u) {
      let features = min(${tileLength}u, p.headSize - first_feature);
      ${statements}
    }`;

/** dx, and the sums of x·dx̃, x̃ = Δ·x. */
export function featureGradients(tiles: Tiles): GpuDispatch {
  const { parameters, has, dtype } = tiles.launch;
  return tileDispatch({
    variant: 'features',
    count: parameters.batch * tiles.round.roundTiles * parameters.heads,
    buffers: [
      ...['x', 'B'],
      stepsBinding,
      ...reading('scores', 'after', 'rises'),
      ...(has('dx') ? [...(has('D') ? ['D'] : []), 'dx'] : []),
      'sums',
    ],
    numbers: tileNumbers(tiles),
    functions: stepsCode,
    body: `
    ${headTile()}
    var through_state = vec4<f32>();
    var in_all = vec4<f32>();
    ${eachFeatureBlock(`
      ${newSums}
      ${addProduct(
        'p.stateSize',
        ['rows', `decay(step_of(j), step_of(rows - 1u)) * ${weightAt('B', 'j', 'k')}`],
        ['features', stateAt('after', 'round_tile', 'k', 'first_feature + j')],
      )}
      ${eachSum('rows', 'features', `through_state[r] += value * ${xAt('i', 'first_feature + j')};`)}
      ${addProduct(
        'rows',
        ['rows', `select(0.0, ${scoreAt('k', 'j')} * decay(step_of(j), step_of(k)), j <= k)`],
        ['features', riseAt('k', 'first_feature + j')],
      )}
      ${eachSum(
        'rows',
        'features',
        `
        let feature = first_feature + j;
        in_all[r] += value * ${xAt('i', 'feature')};
        ${
          has('dx')
            ? `let gradient = step_of(i).z * value${has('D') ? ` + ${skipAt('feature')} * ${riseAt('i', 'feature')}` : ''};
        dx[p.dx_at + ((row + i) * p.heads + h) * p.headSize + feature] = ${dtype('dx') ?? 'f32'}(gradient);`
            : ''
        }`,
      )}`)}
    ${rowTotals('in_all', 'whole')}
    ${rowTotals('through_state', 'through')}
    if (thread < rows) {
      ${sumAt('thread', 0)} = whole;
      ${sumAt('thread', 1)} = through * step_of(thread).z;
    }`,
  });
}

/** dz, and the sums of dy·y as far as y comes from the state before the tile. */
export function gateGradients(tiles: Tiles): GpuDispatch {
  const { parameters, has, dtype } = tiles.launch;
  const gated = has('dz');
  const whole = gated && has('dy');
  // With all that dz takes there is no room for another buffer: the gated gradient is worked out again.
  const zAt = 'f32(z[p.z_at + (row + i) * p.zPitch + h * p.headSize + feature])';
  const dyAt = 'f32(dy[p.dy_at + (row + i) * p.dyPitch + h * p.headSize + feature])';
  const dz = `dz[p.dz_at + ((row + i) * p.heads + h) * p.headSize + feature]`;
  return tileDispatch({
    variant: 'gates',
    count: parameters.batch * tiles.round.roundTiles * parameters.heads,
    buffers: [
      'C',
      stepsBinding,
      ...reading(tiles.before),
      ...(whole ? ['x', ...reading('scores'), 'dy', 'z', ...(has('D') ? ['D'] : [])] : reading('rises')),
      ...(gated ? ['dz'] : []),
      'sums',
    ],
    numbers: tileNumbers(tiles),
    functions: `${wgslMath} ${stepsCode}`,
    body: `
    ${headTile()}
    var from_state = vec4<f32>();
    ${eachFeatureBlock(`
      ${newSums}
      ${earlierPositions(stateAt(tiles.before, tiles.beforeTile, 'k', 'first_feature + j'))}
      ${eachSum(
        'rows',
        'features',
        `
        let feature = first_feature + j;
        from_state[r] += value * ${whole ? `${dyAt} * silu(${zAt})` : riseAt('i', 'feature')};
        ${gated && !whole ? `${dz} = ${dtype('dz') ?? 'f32'}(0.0);` : ''}`,
      )}
      ${
        whole
          ? `${ownPositions}
      ${eachSum(
        'rows',
        'features',
        `
        let feature = first_feature + j;
        let gate = ${zAt};
        let share = sigmoid(gate);
        let before_gate = value${has('D') ? ` + ${skipAt('feature')} * ${xAt('i', 'feature')}` : ''};
        ${dz} = ${dtype('dz') ?? 'f32'}(${dyAt} * before_gate * share * (1.0 + gate * (1.0 - share)));`,
      )}`
          : ''
      }`)}
    ${rowTotals('from_state', 'total')}
    if (thread < rows) { ${sumAt('thread', 2)} = total; }`,
  });
}

/** dB or dC: over the heads of a group, one after the other. */
export function weightGradients(tiles: Tiles, name: 'dB' | 'dC'): GpuDispatch {
  const { parameters, dtype } = tiles.launch;
  const { batch, groups, stateSize } = parameters;
  const stateBlocks = blocksOf(stateSize);
  const ofB = name === 'dB';
  const state = ofB ? stateAt('after', 'round_tile', 'first_state + j', 'k') : stateAt(tiles.before, tiles.beforeTile, 'first_state + j', 'k');
  const own = ofB
    ? addProduct('rows', ['rows', pairAt('k', 'j')], ['states_here', weightAt('C', 'k', 'first_state + j')])
    : addProduct('rows', ['rows', pairAt('j', 'k')], ['states_here', weightAt('B', 'k', 'first_state + j')]);
  const left = ofB ? `decay(step_of(j), step_of(rows - 1u)) * step_of(j).z * ${xAt('j', 'k')}` : `from_start(step_of(j)) * ${riseAt('j', 'k')}`;
  return tileDispatch({
    variant: name,
    count: batch * tiles.round.roundTiles * groups * stateBlocks,
    buffers: [...(ofB ? ['x', 'C', ...reading('after')] : ['B', ...reading('rises', tiles.before)]), stepsBinding, ...reading('pairs'), name],
    numbers: { ...tileNumbers(tiles), stateBlocks },
    functions: stepsCode,
    body: `
    let first_state = flat % p.stateBlocks * ${tileLength}u;
    let states_here = min(${tileLength}u, p.stateSize - first_state);
    let group = flat / p.stateBlocks % p.groups;
    let round_tile = flat / p.stateBlocks / p.groups;
    let tile = p.roundFirst + round_tile % p.roundTiles;
    let b = round_tile / p.roundTiles;
    let first = first_of(tile);
    let rows = length_of(tile);
    let row = b * p.length + first;
    let sharing = p.heads / p.groups;
    ${newSums}
    for (var h = group * sharing; h < (group + 1u) * sharing; h++) {
      ${stepsFirst}
      ${own}
      ${addProduct('p.headSize', ['rows', left], ['states_here', state])}
    }
    ${eachSum('rows', 'states_here', `${name}[p.${name}_at + ((row + i) * p.groups + group) * p.stateSize + first_state + j] = ${dtype(name) ?? 'f32'}(value);`)}`,
  });
}
