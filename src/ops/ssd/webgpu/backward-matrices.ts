/** The backward pass on matrix units, of what has no gate. */
import type { GpuDispatch, GpuKernel, GpuWork } from '../../../tensor/index.js';
import { columnSums } from '../../../wgsl/column-sums.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { chunkStates, factorAt, outsideFour, pairsOf, putOutside, scores, steps, walkChunks } from './common-matrices.js';
import { dyOf, featureGradients, fromStates, pairs, sumsSize, weightGradients } from './gradients-matrices.js';
import { rateGradients } from './rate-gradients-matrices.js';
import { cutAndRounds, haveMatrices, Products } from './matrices.js';
import { tileLength, type Cut } from './tiles.js';

type Kernel = GpuKernel<BackwardBuffers, BackwardParameters>;
type Launch = Parameters<Kernel>[0];

export function canUseMatrices(launch: Launch): boolean {
  const { xPitch, bPitch, cPitch, dyPitch } = launch.parameters;
  return (
    launch.has('dy') &&
    !launch.has('z') &&
    haveMatrices(launch, { halves: ['x', 'B', 'C', 'dy'], names: ['x', 'B', 'C', 'dy', 'dx', 'dB', 'dC', 'states'], pitches: [xPitch, bPitch, cPitch, dyPitch] })
  );
}

export const backwardByMatrices: Kernel = (launch): GpuWork => {
  const { gpu, parameters, has } = launch;
  const { batch, length, heads, headSize, groups, stateSize } = parameters;
  const numbers = batch * heads * headSize * stateSize;
  const { cut, rounds } = cutAndRounds(gpu, parameters, numbers);
  const roundChunks = Math.max(...rounds.map((round) => round.roundChunks));
  const rates = has('dDelta') || has('dA') || has('dDeltaBias');
  const weights = has('dB') || has('dC');
  // Products take states in halves, as the forward pass did.
  const keeps = rates || has('dC');
  const skips = has('dD') ? (parameters.skipByFeature === 1 ? heads * headSize : heads) : 0;
  const f32 = (size: number) => ({ dtype: 'f32' as const, size });
  return {
    dispatches: [
      steps(launch, cut),
      ...(rates || weights || has('dx') ? [scores(launch, cut)] : []),
      ...(rates || weights ? [pairs(launch, cut)] : []),
      ...[...rounds].reverse().flatMap((round) => [
        chunkStates(launch, cut, round, { weights: 'C', from: dyOf(launch), name: 'dy', factor: `factor = ${factorAt('first + t')}.x;` }),
        walkChunks(launch, cut, round, {
          variant: 'gradients after chunks',
          backward: true,
          buffers: [
            { name: 'after', as: 'vec2<u32>' },
            ...(keeps ? [{ name: 'states', as: 'vec4<f32>', access: 'read' as const }, { name: 'before', as: 'vec2<u32>' }] : []),
            { name: 'carry', as: 'vec4<f32>' },
            ...(['dFinalState', 'dInitialState'] as const).filter((name) => has(name)),
          ],
          begin: `if (p.firstChunk + p.roundChunks < p.chunks) { state = carry[p.carry_at + i]; }
            ${has('dFinalState') ? `else { state = ${outsideFour('dFinalState')}; }` : ''}`,
          ...(keeps ? { kept: 'states' } : {}),
          each: `
            ${keeps ? 'before[p.before_at + at] = vec2<u32>(pack2x16float(kept.xy), pack2x16float(kept.zw));' : ''}
            after[p.after_at + at] = vec2<u32>(pack2x16float(state.xy), pack2x16float(state.zw));
            state = factor * state + more;`,
          end: `carry[p.carry_at + i] = state;
            ${has('dInitialState') ? `if (p.firstChunk == 0u) { ${putOutside('dInitialState')} }` : ''}`,
        }),
        ...(rates || has('dx') || skips > 0 ? [featureGradients(launch, cut, round)] : []),
        ...(rates ? [fromStates(launch, cut, round)] : []),
        ...(['dB', 'dC'] as const).filter((name) => has(name)).map((name) => weightGradients(launch, cut, round, name)),
        ...(rates ? [rateGradients(launch, cut, round)] : []),
      ]),
      ...totals(launch, cut, skips),
    ],
    scratch: {
      steps: f32(4 * batch * heads * length),
      factors: f32(4 * batch * heads * length),
      scores: f32((batch * groups * length * cut.tilesPerChunk * tileLength) / 2),
      added: f32(numbers * roundChunks),
      after: f32((numbers * roundChunks) / 2),
      carry: f32(numbers),
      ...(keeps ? { before: f32((numbers * roundChunks) / 2) } : {}),
      ...(rates || weights ? { pairs: f32((batch * groups * length * cut.tilesPerChunk * tileLength) / 2), crossings: f32(batch * cut.chunks * pairsOf(cut) * heads * 2 * tileLength) } : {}),
      ...(rates || has('dx') || skips > 0 ? { sums: f32(sumsSize(launch) + batch * cut.tiles * skips) } : {}),
      ...(rates ? { rateParts: f32(2 * batch * cut.chunks * heads) } : {}),
    },
  };
};

/** dA and dDeltaBias from the parts [B·chunks, H, 2], and dD. */
function totals(launch: Launch, cut: Cut, skips: number): GpuDispatch[] {
  const { parameters, has } = launch;
  const { batch, heads } = parameters;
  const ofRates = (['dA', 'dDeltaBias'] as const).filter((name) => has(name));
  return [
    ...(ofRates.length === 0
      ? []
      : [
          columnSums({
            variant: 'rates of heads',
            parts: 'rateParts',
            rows: batch * cut.chunks,
            columns: 2 * heads,
            buffers: ofRates,
            store: `if (column % 2 == 0) { ${has('dA') ? 'dA[p.dA_at + column / 2] = total;' : ''} }
              else { ${has('dDeltaBias') ? 'dDeltaBias[p.dDeltaBias_at + column / 2] = total;' : ''} }`,
          }),
        ]),
    ...(skips === 0
      ? []
      : [columnSums({ variant: 'skips', parts: 'sums', first: sumsSize(launch), rows: batch * cut.tiles, columns: skips, buffers: ['dD'], store: 'dD[p.dD_at + column] = total;' })]),
  ];
}
