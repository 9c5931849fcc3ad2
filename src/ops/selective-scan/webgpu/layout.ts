/** How the scans' work is laid out on a GPU, and the coefficients that their walks read. */
import type { GpuDispatch, GpuFeatures, GpuLaunch } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import type { Lanes } from '../../../wgsl/vectors.js';
import { gpuChunkLength } from '../plan.js';

/** What the walks of a scan have in common. */
export interface Geometry {
  /** States of an invocation, and how many of them make a vector. */
  readonly states: number;
  readonly width: number;
  /** Neighbouring invocations that share a channel; sums over `folded` of them are shuffles within a subgroup. */
  readonly sharers: number;
  readonly folded: number;
  /** N with what is missing to sharers · states. */
  readonly paddedStates: number;
  /** Channels and invocations of a workgroup. */
  readonly channels: number;
  readonly threads: number;
  /** Steps between two barriers. */
  readonly tile: number;
  /** Whether B and C are read from memory at every step, where workgroup memory is too small for them. */
  readonly direct: boolean;
  /** Channels that are loaded and stored together. */
  readonly lanes: Lanes;
  /** Whether loops over what lies in registers are unrolled: software GPUs have narrow subgroups, and compile that for minutes. */
  readonly unrolled: boolean;
}

/** Steps between two barriers at most: whole chunks. */
export const longestTile = 2 * gpuChunkLength;
/** Steps whose sums over a channel's invocations are taken together, at most. */
const mostFolded = 8;

/** A power of two. */
const powerOfTwo = (least: number): number => 2 ** Math.ceil(Math.log2(least));

/**
 * @param fourChannels whether the buffers allow to load four channels at a time
 * @param bytes workgroup memory that a walk of this geometry takes
 * @param sizes steps between barriers and invocations of a workgroup to choose from, the best first
 */
export function layOut(
  gpu: GpuFeatures,
  stateSize: number,
  fourChannels: boolean,
  bytes: (geometry: Geometry) => number,
  sizes: { readonly tiles: readonly number[]; readonly threads: readonly number[] },
): Geometry {
  const states = stateSize > 1024 ? 8 : stateSize > 2 ? 4 : stateSize;
  const sharers = powerOfTwo(stateSize / states);
  const candidates = sizes.threads.map((threads) => Math.max(threads, sharers)).flatMap((threads) =>
    sizes.tiles.flatMap((tile) => [false, true].map((direct) => ({ threads, tile, direct }))),
  );
  let smallest: Geometry | undefined;
  for (const { threads, tile, direct } of candidates) {
    const channels = threads / sharers;
    smallest = {
      ...{ states, sharers, channels, threads, tile, direct },
      width: Math.min(states, 4),
      folded: gpu.subgroups === null ? 1 : Math.min(sharers, tile, mostFolded, gpu.subgroups.smallest),
      paddedStates: sharers * states,
      lanes: fourChannels && channels >= 4 ? 4 : 1,
      unrolled: gpu.subgroups !== null && gpu.subgroups.smallest >= 16,
    };
    if (bytes(smallest) <= gpu.workgroupBytes) return smallest;
  }
  if (smallest === undefined) throw new RangeError('selectiveScan: no geometry');
  return smallest;
}

/** Elements between the sums of neighbouring steps: padded, so that the steps of a subgroup fall into different banks. */
export const sumsPitch = ({ channels, sharers, folded }: Geometry): number => (channels * sharers) / folded + (folded > 1 ? 8 : 0);

/** Invocations below which the length is cut into segments, and how many they are to become. */
const fewInvocations = 24576;
const manyInvocations = 65536;
const leastSegment = 128;
/** No invocation walks further than this. */
const longestSegment = 16384;

/** The length cut into `count` segments of `length` steps, whole chunks; the last may be shorter. */
export interface Segments {
  readonly count: number;
  readonly length: number;
}

/** Segments cost every exponential twice: they are for shapes that would leave a GPU idle otherwise. */
export function cutLength(batch: number, length: number, channels: number, { sharers }: Geometry): Segments {
  const invocations = batch * channels * sharers;
  const idle = invocations < fewInvocations ? Math.ceil(manyInvocations / invocations) : 1;
  const wanted = Math.max(Math.min(idle, Math.floor(length / leastSegment)), Math.ceil(length / longestSegment), 1);
  const each = longestTile * Math.ceil(length / wanted / longestTile);
  return { count: Math.ceil(length / each), length: each };
}

type Inputs = 'D' | 'deltaBias' | 'sequenceStarts';
type Extents = 'batch' | 'length' | 'channels' | 'stateSize';

/**
 * The buffer `coefficients`, so that a walk binds one buffer instead of seven: A·log₂e [E, paddedStates]; `first`, the state to
 * start from [B, E, paddedStates] where there is one; `rows`, B and C [B, L, 2, paddedStates] in the scan's order; `channel`, D
 * and the bias [E, 2]; `resets` [B, L], nonzero where the state is dropped. `at` says where each begins.
 */
export interface Coefficients {
  readonly at: Readonly<Record<'firstAt' | 'rowsAt' | 'channelAt' | 'resetsAt', number>>;
  readonly size: number;
  readonly dispatch: GpuDispatch;
}

export function packCoefficients(
  { parameters, has }: Pick<GpuLaunch<Inputs, Extents>, 'parameters' | 'has'>,
  first: 'initialState' | 'dFinalState' | null,
  { paddedStates }: Geometry,
): Coefficients {
  const { batch, length, channels } = parameters;
  const firstAt = channels * paddedStates;
  const rowsAt = firstAt + (first ? batch * channels * paddedStates : 0);
  const channelAt = rowsAt + batch * length * 2 * paddedStates;
  const resetsAt = channelAt + 2 * channels;
  const size = resetsAt + (has('sequenceStarts') ? batch * length : 0);
  const at = { firstAt, rowsAt, channelAt, resetsAt };
  const padded = String(paddedStates);
  const optional = (['D', 'deltaBias', 'sequenceStarts'] as const).filter((name) => has(name));
  return {
    at,
    size,
    dispatch: perElement({
      variant: `coefficients${padded}${first ?? ''}`,
      count: size,
      numbers: at,
      buffers: ['A', 'B', 'C', ...optional, ...(first ? [first] : []), 'coefficients'],
      body: `
        var value = 0.0;
        if (i < p.firstAt) {
          let n = i % ${padded};
          if (n < p.stateSize) { value = A[p.A_at + i / ${padded} * p.stateSize + n] * ${Math.LOG2E}; }
        } else if (i < p.rowsAt) {
          let j = i - p.firstAt;
          let n = j % ${padded};
          if (n < p.stateSize) { value = ${first ? `${first}[p.${first}_at + j / ${padded} * p.stateSize + n]` : '0.0'}; }
        } else if (i < p.channelAt) {
          let j = i - p.rowsAt;
          let position = j / ${padded} / 2;
          let step = position % p.length;
          let row = position - step + select(step, p.length - 1 - step, p.reverse == 1);
          let n = j % ${padded};
          if (n < p.stateSize) {
            if (j / ${padded} % 2 == 0) { value = f32(B[p.B_at + row * p.bPitch + n]); }
            else { value = f32(C[p.C_at + row * p.cPitch + n]); }
          }
        } else if (i < p.resetsAt) {
          let e = (i - p.channelAt) / 2;
          if ((i - p.channelAt) % 2 == 0) { value = ${has('D') ? 'D[p.D_at + e]' : '0.0'}; }
          else { value = ${has('deltaBias') ? 'deltaBias[p.deltaBias_at + e]' : '0.0'}; }
        } else {
          ${
            has('sequenceStarts')
              ? `let position = i - p.resetsAt;
                 let step = position % p.length;
                 if (p.reverse == 0) { value = f32(sequenceStarts[p.sequenceStarts_at + position] != 0); }
                 // Backwards a document's end drops the state: the position after it starts the next one.
                 else if (step > 0) { value = f32(sequenceStarts[p.sequenceStarts_at + position - step + p.length - step] != 0); }`
              : ''
          }
        }
        coefficients[p.coefficients_at + i] = value;`,
    }),
  };
}
