import type { GpuBinding, GpuKernel, GpuLaunch } from '../../../tensor/index.js';
import { columnSums } from '../../../wgsl/column-sums.js';
import { wgslMath } from '../../../wgsl/math.js';
import { perElement } from '../../../wgsl/per-element.js';
import { backwardByMatrices, canUseMatrices } from './backward-matrices.js';
import { begin, inputs, keptAt, tileStates, walkTiles, type SequenceBuffers, type SequenceParameters } from './common.js';
import { featureGradients, gateGradients, pairs, riseAt, weightGradients, type Tiles } from './gradients.js';
import { rateGradients } from './rate-gradients.js';
import { cutCode, roundsOf, tileLength, type Cut, type Round } from './tiles.js';

type Outputs = 'dx' | 'dDelta' | 'dA' | 'dB' | 'dC' | 'dD' | 'dz' | 'dDeltaBias' | 'dInitialState';
export type BackwardBuffers = SequenceBuffers | Outputs | 'dy' | 'dFinalState' | 'sequenceParts' | 'headParts';
export type BackwardParameters = SequenceParameters | 'dyPitch';
export type BackwardLaunch = GpuLaunch<BackwardBuffers, BackwardParameters>;

/**
 * As forward, from the last round of chunks to the first: the state before each tile, the gradient of the state after each (`after`), products of
 * dy and x for each pair of positions of a tile (`pairs`), and the gradients from these.
 */
export const backwardByRows: GpuKernel<BackwardBuffers, BackwardParameters> = (launch) => {
  const { parameters, has } = launch;
  const { batch, length, heads, headSize, stateSize } = parameters;
  const { cut, dispatches, scratch } = begin(launch);
  const numbers = batch * heads * headSize * stateSize;
  const rounds = roundsOf(launch.gpu, cut, Math.max(numbers, batch * heads * tileLength ** 2));
  const roundTiles = Math.max(...rounds.map((round) => round.roundTiles));
  const rates = has('dDelta') || has('dA') || has('dDeltaBias');
  const weights = has('dB') || has('dC');
  const features = heads * headSize;
  const skips = parameters.skipByFeature === 1 ? features : heads;
  // Where chunks are tiles, the states before them were kept.
  const again = cut.tilesPerChunk > 1;
  const f32 = (size: number) => ({ dtype: 'f32' as const, size });
  return {
    dispatches: [
      ...dispatches,
      rises(launch),
      ...[...rounds].reverse().flatMap((round) => {
        const tiles: Tiles = again
          ? { launch, cut, round, before: 'before', beforeTile: 'round_tile' }
          : { launch, cut, round, before: 'states', beforeTile: 'b * p.chunks + tile' };
        return [
          ...(again ? statesBefore(launch, cut, round) : []),
          tileStates(launch, cut, round, { to: 'after', weights: 'C', from: 'rises', right: `from_start(step_of(k)) * ${riseAt('k', 'first_feature + j')}` }),
          walkTiles(launch, cut, round, {
            variant: 'gradients after tiles',
            backward: true,
            buffers: ['after', 'carry', ...(['dFinalState', 'dInitialState'] as const).filter((name) => has(name))],
            before: `if (p.roundFirst + p.roundTiles < p.tiles) { state = carry[p.carry_at + i]; }
              ${has('dFinalState') ? 'else { state = dFinalState[p.dFinalState_at + outside]; }' : ''}`,
            body: `
              let more = after[p.after_at + at];
              after[p.after_at + at] = state;
              state = factor * state + more;`,
            after: `carry[p.carry_at + i] = state;
              ${has('dInitialState') ? 'if (p.roundFirst == 0u) { dInitialState[p.dInitialState_at + outside] = state; }' : ''}`,
          }),
          ...(rates || weights ? [pairs(tiles)] : []),
          ...(rates || has('dx') ? [featureGradients(tiles)] : []),
          ...(rates || has('dz') ? [gateGradients(tiles)] : []),
          ...(['dB', 'dC'] as const).filter((name) => has(name)).map((name) => weightGradients(tiles, name)),
          ...(rates ? [rateGradients(tiles)] : []),
        ];
      }),
      ...totals(launch, cut, skips),
    ],
    scratch: {
      ...scratch,
      rises: f32(batch * length * features),
      ...(again ? { before: f32(numbers * roundTiles) } : {}),
      after: f32(numbers * roundTiles),
      carry: f32(numbers),
      ...(rates || weights ? { pairs: f32(batch * roundTiles * heads * tileLength ** 2) } : {}),
      ...(rates || has('dx') || has('dz') ? { sums: f32(3 * batch * heads * length) } : {}),
      ...(rates ? { rateParts: f32(2 * batch * cut.tiles * heads) } : {}),
      ...(has('dD') ? { skipParts: f32(batch * cut.tiles * skips) } : {}),
    },
  };
};

export const ssdBackwardGpu: GpuKernel<BackwardBuffers, BackwardParameters> = (launch) => (canUseMatrices(launch) ? backwardByMatrices : backwardByRows)(launch);

/** `rises` [B, L, H·P]: the gradient of y before the gate. */
function rises({ parameters, has }: BackwardLaunch) {
  const { batch, length, heads, headSize } = parameters;
  return perElement({
    variant: 'rises',
    count: batch * length * heads * headSize,
    buffers: [...(has('dy') ? ['dy', ...(has('z') ? ['z'] : [])] : []), 'rises'],
    functions: wgslMath,
    body: `
      let row = i / (p.heads * p.headSize);
      let e = i % (p.heads * p.headSize);
      var rise = ${has('dy') ? 'f32(dy[p.dy_at + row * p.dyPitch + e])' : '0.0'};
      ${has('dy') && has('z') ? 'rise *= silu(f32(z[p.z_at + row * p.zPitch + e]));' : ''}
      rises[p.rises_at + i] = rise;`,
  });
}

/** `before`, the state before each tile, from those that were kept. */
const statesBefore = (launch: BackwardLaunch, cut: Cut, round: Round) => [
  tileStates(launch, cut, round, { to: 'before', weights: 'B', from: 'x', right: inputs }),
  walkTiles(launch, cut, round, {
    variant: 'states before tiles',
    backward: false,
    buffers: ['before', 'states'],
    before: '',
    body: `
      let more = before[p.before_at + at];
      if (tile % p.tilesPerChunk == 0u) { state = ${keptAt}; }
      before[p.before_at + at] = state;
      state = factor * state + more;`,
    after: '',
  }),
];

/** dA and dDeltaBias from the parts [B·tiles, H, 2], and dD. */
function totals({ parameters, has }: BackwardLaunch, cut: Cut, skips: number) {
  const { batch } = parameters;
  const parts: GpuBinding[] = (['dA', 'dDeltaBias'] as const).filter((name) => has(name)).map((name) => ({ name }));
  return [
    ...(parts.length === 0
      ? []
      : [
          columnSums({
            variant: 'rates of heads',
            parts: 'rateParts',
            rows: batch * cut.tiles,
            columns: 2 * parameters.heads,
            buffers: parts,
            store: `if (column % 2 == 0) { ${has('dA') ? 'dA[p.dA_at + column / 2] = total;' : ''} }
              else { ${has('dDeltaBias') ? 'dDeltaBias[p.dDeltaBias_at + column / 2] = total;' : ''} }`,
          }),
        ]),
    ...(has('dD')
      ? [
          perElement({
            variant: 'skip parts',
            count: batch * cut.tiles * skips,
            buffers: ['x', { name: 'rises', access: 'read' as const }, 'skipParts'],
            numbers: { skips, tiles: cut.tiles, tilesPerChunk: cut.tilesPerChunk },
            functions: cutCode,
            body: `
              let width = p.heads * p.headSize / p.skips;
              let e = i % p.skips * width;
              let tile = i / p.skips % p.tiles;
              let first = i / p.skips / p.tiles * p.length + first_of(tile);
              let rows = length_of(tile);
              var total = 0.0;
              for (var row = first; row < first + rows; row++) {
                for (var n = 0u; n < width; n++) {
                  total += rises[p.rises_at + row * p.heads * p.headSize + e + n] * f32(x[p.x_at + row * p.xPitch + e + n]);
                }
              }
              skipParts[p.skipParts_at + i] = total;`,
          }),
          columnSums({
            variant: 'skips',
            parts: 'skipParts',
            rows: batch * cut.tiles,
            columns: skips,
            buffers: ['dD'],
            store: 'dD[p.dD_at + column] = total;',
          }),
        ]
      : []),
  ];
}
