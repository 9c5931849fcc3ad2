import { fold, type GpuDispatch, type GpuKernel, type GpuLaunch } from '../../../tensor/index.js';
import { columnSums } from '../../../wgsl/column-sums.js';
import { perElement } from '../../../wgsl/per-element.js';
import { lanesFor } from '../../../wgsl/vectors.js';
import { gpuChunkLength } from '../plan.js';
import { adjointDispatch } from './adjoint.js';
import { batchFor, batchedBytes, outputNames, type AdjointGiven } from './adjoint-sums.js';
import { endsDispatch } from './ends.js';
import { cutLength, layOut, packCoefficients, type Geometry } from './layout.js';
import type { WalkOptions } from './walk.js';

type Buffers =
  | ('u' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias' | 'sequenceStarts' | 'states' | 'dy' | 'dFinalState')
  | ('du' | 'dDelta' | 'dA' | 'dB' | 'dC' | 'dD' | 'dz' | 'dDeltaBias' | 'dInitialState')
  | ('sequenceParts' | 'channelParts' | 'carries');
type Parameters =
  | ('batch' | 'length' | 'channels' | 'stateSize' | 'uPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch' | 'dyPitch')
  | ('softplus' | 'reverse' | 'hold' | 'chunk' | 'segments' | 'groupChannels');

/** Elements of the parts of dB and dC at a time: with the other parts they fit the smallest binding of 128 MiB. */
const mostParts = 2 ** 25 - 2 ** 22;
/** Elements over whose states and steps one dispatch may go. */
const mostWork = 2 ** 31;

/** A range of units (a segment of a sequence each), and the positions that they cover. */
interface Round {
  readonly firstUnit: number;
  readonly units: number;
  readonly firstRow: number;
  readonly rows: number;
}

/**
 * The walks back give dB and dC for a workgroup's channels and the sums over a segment for each channel, as parts that further
 * dispatches add in order. One buffer holds all of them, so that no dispatch binds more than ten.
 */
export const selectiveScanBackwardGpu: GpuKernel<Buffers, Parameters> = (launch) => {
  const { gpu, parameters, has, dtype, aligned } = launch;
  const { batch, length, channels, stateSize, uPitch, deltaPitch, zPitch, dyPitch, hold } = parameters;
  const fourChannels = aligned(4, 'u', 'delta', 'z', 'dy', 'du', 'dDelta', 'dz');
  const lanes = lanesFor([channels, uPitch, deltaPitch, zPitch, dyPitch], fourChannels);
  const geometry = layOut(gpu, stateSize, lanes === 4, (candidate) => batchedBytes(gpu, candidate, 1), {
    tiles: [gpuChunkLength],
    threads: [128, 64, 32],
  });
  const segments = cutLength(batch, length, channels, geometry);
  const coefficients = packCoefficients(launch, has('dFinalState') ? 'dFinalState' : null, geometry);
  const options: WalkOptions = {
    geometry,
    dtype: (name) => dtype(name as Buffers) ?? 'f32',
    hasFirst: has('dFinalState'),
    hasStarts: has('sequenceStarts'),
    segmented: segments.count > 1,
    ends: 'parts',
    hold: hold === 1,
  };
  const given: AdjointGiven = {
    dy: has('dy'),
    z: has('z'),
    outputs: outputNames.filter((name) => has(name)),
    sequence: has('dB') || has('dC'),
    initial: has('dInitialState'),
    batch: batchFor(gpu, geometry),
  };
  const { paddedStates } = geometry;
  const groups = Math.ceil(channels / geometry.channels);
  const rounds = shareOutRounds(launch, segments, given.sequence ? groups * 2 * paddedStates : 0);
  const endsAt = given.sequence ? groups * 2 * paddedStates * Math.max(...rounds.map(({ rows }) => rows)) : 0;
  const channelPartsAt = endsAt + (segments.count > 1 ? batch * segments.count * (paddedStates + 2) * channels : 0);
  const initialAt = channelPartsAt + batch * segments.count * (paddedStates + 2) * channels;
  const numbers = {
    ...coefficients.at,
    ...{ groups, segmentCount: segments.count, segmentLength: segments.length, endsAt, channelPartsAt, initialAt },
  };
  const walks: GpuDispatch[] = rounds.flatMap((round) => [
    adjointDispatch(
      gpu,
      options,
      given,
      {
        ...numbers,
        ...{ firstUnit: round.firstUnit, firstSegment: 0, unitsOfSequence: segments.count, workgroups: round.units * groups },
        ...{ firstRow: round.firstRow, roundRows: round.rows },
      },
      fold(round.units * groups),
    ),
    ...(given.sequence ? [sequenceSums(launch, geometry, groups, round)] : []),
  ]);
  const ends =
    segments.count > 1
      ? rounds.flatMap(({ firstUnit, units }) => {
          // The first segment's end is nobody's start.
          const perSequence = segments.count - 1;
          const [from, to] = [firstUnit, firstUnit + units].map(
            (unit) => Math.floor(unit / segments.count) * perSequence + Math.max(0, (unit % segments.count) - 1),
          ) as [number, number];
          const counted = { firstUnit: from, firstSegment: 1, unitsOfSequence: perSequence, workgroups: (to - from) * groups };
          return [endsDispatch(options, 'backward', given, { ...numbers, ...counted }, fold((to - from) * groups))];
        })
      : [];
  return {
    dispatches: [coefficients.dispatch, ...ends, ...walks, ...channelSums(launch, geometry, segments.count, channelPartsAt, initialAt)],
    scratch: {
      coefficients: { dtype: 'f32', size: coefficients.size },
      parts: { dtype: 'f32', size: initialAt + (given.initial ? batch * paddedStates * channels : 0) },
    },
  };
};

/** Units in ranges whose parts of dB and dC, `rowParts` elements a position, and whose work are bounded. */
function shareOutRounds(
  { parameters: { batch, length, channels, stateSize } }: Pick<GpuLaunch<never, Parameters>, 'parameters'>,
  segments: { readonly count: number; readonly length: number },
  rowParts: number,
): Round[] {
  const unitRows = Math.min(length, segments.length);
  const most = Math.max(1, Math.floor(Math.min(mostWork / (unitRows * channels * stateSize), mostParts / Math.max(1, rowParts * unitRows))));
  const units = batch * segments.count;
  const rowOf = (unit: number) => Math.floor(unit / segments.count) * length + (unit % segments.count) * segments.length;
  return Array.from({ length: Math.ceil(units / most) }, (_, i) => {
    const [first, end] = [i * most, Math.min(units, (i + 1) * most)];
    return { firstUnit: first, units: end - first, firstRow: rowOf(first), rows: rowOf(end) - rowOf(first) };
  });
}

/** dB and dC from the parts [groups, rows, 2, paddedStates], whose rows are in the scan's order. */
function sequenceSums({ has, dtype }: GpuLaunch<Buffers, Parameters>, { paddedStates }: Geometry, groups: number, round: Round): GpuDispatch {
  const store = (name: 'dB' | 'dC') =>
    has(name) ? `${name}[p.${name}_at + row * p.stateSize + n] = ${dtype(name) ?? 'f32'}(total);` : '';
  return columnSums({
    variant: `sequence${paddedStates}`,
    parts: 'parts',
    rows: groups,
    columns: round.rows * 2 * paddedStates,
    numbers: { firstRow: round.firstRow },
    buffers: (['dB', 'dC'] as const).filter((name) => has(name)),
    store: `
      let n = column % ${paddedStates};
      if (n < p.stateSize) {
        let position = p.firstRow + column / ${2 * paddedStates};
        let step = position % p.length;
        let row = position - step + select(step, p.length - 1 - step, p.reverse == 1);
        if (column / ${paddedStates} % 2 == 0) { ${store('dB')} } else { ${store('dC')} }
      }`,
  });
}

/** dA, dD and dDeltaBias from the parts [B·segments, paddedStates + 2, E], and the initial state's gradient [B, paddedStates, E]. */
function channelSums(
  { parameters: { batch, channels, stateSize }, has }: GpuLaunch<Buffers, Parameters>,
  { paddedStates }: Geometry,
  segmentCount: number,
  channelPartsAt: number,
  initialAt: number,
): GpuDispatch[] {
  const outputs = (['dA', 'dD', 'dDeltaBias'] as const).filter((name) => has(name));
  const padded = String(paddedStates);
  return [
    ...(outputs.length === 0
      ? []
      : [
          columnSums({
            variant: `channel${padded}`,
            parts: 'parts',
            first: channelPartsAt,
            rows: batch * segmentCount,
            columns: (paddedStates + 2) * channels,
            buffers: outputs,
            store: `
              let e = column % p.channels;
              let n = column / p.channels;
              if (n < p.stateSize) { ${has('dA') ? 'dA[p.dA_at + e * p.stateSize + n] = total;' : ''} }
              else if (n == ${padded}) { ${has('dD') ? 'dD[p.dD_at + e] = total;' : ''} }
              else if (n == ${padded} + 1) { ${has('dDeltaBias') ? 'dDeltaBias[p.dDeltaBias_at + e] = total;' : ''} }`,
          }),
        ]),
    ...(has('dInitialState')
      ? [
          perElement({
            variant: `initial${padded}`,
            count: batch * channels * stateSize,
            numbers: { initialAt },
            buffers: [{ name: 'parts', access: 'read' as const }, 'dInitialState'],
            body: `
              let n = i % p.stateSize;
              let e = i / p.stateSize % p.channels;
              let b = i / p.stateSize / p.channels;
              dInitialState[p.dInitialState_at + i] = parts[p.parts_at + p.initialAt + (b * ${padded} + n) * p.channels + e];`,
          }),
        ]
      : []),
  ];
}
