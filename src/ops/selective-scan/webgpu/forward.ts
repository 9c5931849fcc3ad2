import { fold, type GpuDispatch, type GpuKernel } from '../../../tensor/index.js';
import { lanesFor } from '../../../wgsl/vectors.js';
import { endsDispatch } from './ends.js';
import { cutLength, layOut, longestTile, packCoefficients } from './layout.js';
import { scanBytes, scanDispatch } from './scan.js';
import type { WalkOptions } from './walk.js';

type Buffers =
  | ('u' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias')
  | ('initialState' | 'sequenceStarts' | 'y' | 'finalState' | 'states' | 'carries');
type Parameters =
  | ('batch' | 'length' | 'channels' | 'stateSize' | 'uPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch')
  | ('softplus' | 'reverse' | 'hold' | 'chunk' | 'segments');

/** Elements of y over whose states and steps one dispatch may go: a slow GPU must not be busy for seconds with it. */
export const mostWork = 2 ** 33;

export const selectiveScanGpu: GpuKernel<Buffers, Parameters> = (launch) => {
  const { gpu, parameters, has, dtype, aligned } = launch;
  const { batch, length, channels, stateSize, uPitch, deltaPitch, zPitch, hold } = parameters;
  const lanes = lanesFor([channels, uPitch, deltaPitch, zPitch], aligned(4, 'u', 'delta', 'z', 'y'));
  const geometry = layOut(gpu, stateSize, lanes === 4, scanBytes, {
    tiles: [longestTile, longestTile / 2, longestTile / 4],
    threads: [64, 32],
  });
  const segments = cutLength(batch, length, channels, geometry);
  const coefficients = packCoefficients(launch, has('initialState') ? 'initialState' : null, geometry);
  const options: WalkOptions = {
    geometry,
    dtype: (name) => dtype(name as Buffers) ?? 'f32',
    hasFirst: has('initialState'),
    hasStarts: has('sequenceStarts'),
    segmented: segments.count > 1,
    ends: 'ends',
    hold: hold === 1,
  };
  const groups = Math.ceil(channels / geometry.channels);
  const numbers = { ...coefficients.at, groups, segmentCount: segments.count, segmentLength: segments.length, endsAt: 0 };
  const unitWork = Math.min(length, segments.length) * channels * stateSize;
  const work: GpuDispatch[] = [coefficients.dispatch];
  if (segments.count > 1) {
    const perSequence = segments.count - 1;
    for (const { firstUnit, count } of shareOut(batch * perSequence, unitWork)) {
      work.push(
        endsDispatch(
          options,
          'forward',
          { z: false, dy: false },
          { ...numbers, firstUnit, firstSegment: 0, unitsOfSequence: perSequence, workgroups: count * groups },
          fold(count * groups),
        ),
      );
    }
  }
  for (const { firstUnit, count } of shareOut(batch * segments.count, unitWork)) {
    work.push(
      scanDispatch(
        options,
        { z: has('z'), states: has('states') },
        { ...numbers, firstUnit, firstSegment: 0, unitsOfSequence: segments.count, workgroups: count * groups },
        fold(count * groups),
      ),
    );
  }
  return {
    dispatches: work,
    scratch: {
      coefficients: { dtype: 'f32', size: coefficients.size },
      ...(segments.count > 1
        ? { ends: { dtype: 'f32' as const, size: batch * segments.count * (geometry.paddedStates + 2) * channels } }
        : {}),
    },
  };
};

/** The units in ranges of bounded work. */
export function shareOut(units: number, unitWork: number): { firstUnit: number; count: number }[] {
  const most = Math.max(1, Math.floor(mostWork / unitWork));
  return Array.from({ length: Math.ceil(units / most) }, (_, i) => ({
    firstUnit: i * most,
    count: Math.min(most, units - i * most),
  }));
}
