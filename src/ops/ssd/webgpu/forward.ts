import type { GpuKernel } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { saturated } from '../../../wgsl/vectors.js';
import {
  begin,
  blocksOf,
  inputs,
  keptAt,
  roundNumbers,
  scoreAt,
  skipAt,
  stateAt,
  tileStates,
  walkTiles,
  weightAt,
  xAt,
  type SequenceParameters,
} from './common.js';
import { canUseMatrices, forwardByMatrices, type ForwardBuffers } from './forward-matrices.js';
import { addProduct, eachSum, headTile, newSums, roundsOf, stepsBinding, stepsCode, tileDispatch, tileLength } from './tiles.js';

/** y's share of a tile's own positions. */
export const ownPositions = addProduct(
  'rows',
  ['rows', `select(0.0, ${scoreAt('j', 'k')} * decay(step_of(k), step_of(j)) * step_of(k).z, k <= j)`],
  ['features', xAt('k', 'first_feature + j')],
);

/** y's share of the state before the tile, `state` WGSL of a number of it. */
export const earlierPositions = (state: string): string =>
  addProduct('p.stateSize', ['rows', `from_start(step_of(j)) * ${weightAt('C', 'j', 'k')}`], ['features', state]);

/**
 * The chunks go in rounds, and the state from one to the next through `finalState`. In a round, all tiles of at most 64 positions work at the
 * same time: what each adds to the state, then the state before each in a short walk, then y.
 */
export const forwardByRows: GpuKernel<ForwardBuffers, SequenceParameters> = (launch) => {
  const { parameters, has, dtype } = launch;
  const { batch, heads, headSize, stateSize } = parameters;
  const { cut, dispatches, scratch } = begin(launch);
  const numbers = batch * heads * headSize * stateSize;
  const rounds = roundsOf(launch.gpu, cut, numbers);
  const featureBlocks = blocksOf(headSize);
  return {
    dispatches: [
      ...dispatches,
      ...rounds.flatMap((round) => [
        tileStates(launch, cut, round, { to: 'before', weights: 'B', from: 'x', right: inputs }),
        walkTiles(launch, cut, round, {
          variant: 'states before tiles',
          backward: false,
          buffers: ['before', ...(['initialState', 'states'] as const).filter((name) => has(name)), 'finalState'],
          before: `if (p.roundFirst > 0u) { state = finalState[p.finalState_at + outside]; }
            ${has('initialState') ? 'else { state = initialState[p.initialState_at + outside]; }' : ''}`,
          body: `
            let more = before[p.before_at + at];
            before[p.before_at + at] = state;
            ${has('states') ? `if (tile % p.tilesPerChunk == 0u) { ${keptAt} = state; }` : ''}
            state = factor * state + more;`,
          after: 'finalState[p.finalState_at + outside] = state;',
        }),
        tileDispatch({
          variant: 'y',
          count: batch * round.roundTiles * heads * featureBlocks,
          buffers: [
            ...['x', 'C'],
            stepsBinding,
            { name: 'scores', access: 'read' },
            { name: 'before', access: 'read' },
            ...(['D', 'z'] as const).filter((name) => has(name)),
            'y',
          ],
          numbers: { ...roundNumbers(cut, round), featureBlocks },
          functions: `${wgslMath} ${stepsCode}`,
          body: `
    ${headTile('p.featureBlocks')}
    let first_feature = block * ${tileLength}u;
    let features = min(${tileLength}u, p.headSize - first_feature);
    ${newSums}
    ${ownPositions}
    ${earlierPositions(stateAt('before', 'round_tile', 'k', 'first_feature + j'))}
    ${eachSum(
      'rows',
      'features',
      `
      let feature = first_feature + j;
      var result = value;
      ${has('D') ? `result += ${skipAt('feature')} * ${xAt('i', 'feature')};` : ''}
      ${has('z') ? 'result *= silu(f32(z[p.z_at + (row + i) * p.zPitch + h * p.headSize + feature]));' : ''}
      y[p.y_at + ((row + i) * p.heads + h) * p.headSize + feature] = ${saturated(1, dtype('y') ?? 'f32', 'result')};`,
    )}`,
        }),
      ]),
    ],
    scratch: { ...scratch, before: { dtype: 'f32', size: numbers * Math.max(...rounds.map(({ roundTiles }) => roundTiles)) } },
  };
};

export const ssdGpu: GpuKernel<ForwardBuffers, SequenceParameters> = (launch) => (canUseMatrices(launch) ? forwardByMatrices : forwardByRows)(launch);
