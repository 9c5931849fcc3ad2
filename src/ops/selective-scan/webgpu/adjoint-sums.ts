/** What the walk back sums over states, channels and steps, and what it stores of that. */
import type { GpuFeatures } from '../../../tensor/index.js';
import { repeat, vectorOf } from '../../../wgsl/vectors.js';
import { sumsPitch, type Geometry } from './layout.js';
import { loop, type Index } from './loops.js';
import { perLane, sharedBytes, transposingSums, type WalkOptions } from './walk.js';

/** Gradients of activations, which the walk itself stores. */
export const outputNames = ['du', 'dDelta', 'dz'] as const;

export interface AdjointGiven {
  readonly dy: boolean;
  readonly z: boolean;
  readonly outputs: readonly (typeof outputNames)[number][];
  /** Whether the parts of dB and dC are wanted, and the gradient of the initial state. */
  readonly sequence: boolean;
  readonly initial: boolean;
  /** Steps between two visits to workgroup memory for the sums. */
  readonly batch: number;
}

/** A walk back, and what its code takes from that. */
export interface Adjoint {
  readonly options: WalkOptions;
  readonly given: AdjointGiven;
  /** Channels that dB and dC are summed over by shuffles, and the sums that a workgroup is left with. */
  readonly across: number;
  readonly channelParts: number;
  /** Steps that all invocations load, or store, at once. */
  readonly rowsAtOnce: number;
}

export function adjointOf(gpu: GpuFeatures, options: WalkOptions, given: AdjointGiven): Adjoint {
  const { threads, lanes, channels } = options.geometry;
  const across = foldedChannels(gpu, options.geometry);
  return { options, given, across, channelParts: channels / across, rowsAtOnce: (threads * lanes) / channels };
}

/** Steps of a tile whose activations are loaded by invocations of their own. */
export const loadersOf = ({ threads, lanes, channels, tile }: Geometry): number => Math.min((threads * lanes) / channels, tile);

/** Channels that dB and dC are summed over by shuffles: what is left of a subgroup, and no more than there are sums. */
function foldedChannels({ subgroups }: GpuFeatures, { sharers, channels, states }: Geometry): number {
  if (subgroups === null || subgroups.smallest < sharers) return 1;
  return Math.min(subgroups.smallest / sharers, channels, 2 * states);
}

/** Workgroup memory of a walk that keeps sums for `batch` steps. */
export function batchedBytes(gpu: GpuFeatures, geometry: Geometry, batch: number): number {
  const { tile, channels, paddedStates, folded } = geometry;
  const parts = channels / foldedChannels(gpu, geometry);
  const sums = Math.max(batch, folded) * (3 * sumsPitch(geometry) + 2 * paddedStates * parts);
  return sharedBytes(geometry) + 4 * (4 * tile * channels + sums);
}

/** The most steps, a divisor of the tile and whole turns of the shuffles, whose sums fit. */
export const batchFor = (gpu: GpuFeatures, geometry: Geometry): number =>
  [8, 4, 2].find((batch) => batch >= geometry.folded && batchedBytes(gpu, geometry, batch) <= gpu.workgroupBytes) ?? geometry.folded;

/** Workgroup memory for the sums of a batch of steps: y, e and f of each channel; dB and dC of each state. */
export function declareSums({ options: { geometry }, given: { batch, sequence }, channelParts }: Adjoint): string {
  return `var<workgroup> sums: array<f32, ${3 * batch * sumsPitch(geometry)}>;
      ${sequence ? `var<workgroup> rowSums: array<f32, ${batch * channelParts * 2 * geometry.paddedStates}>;` : ''}`;
}

/** The shares of y, e and f of neighbouring steps into workgroup memory, summed over neighbours where they fit a subgroup. */
export function keepSums({ options: { geometry }, given: { batch } }: Adjoint): string {
  const { sharers, folded } = geometry;
  const pitch = sumsPitch(geometry);
  return ['y', 'e', 'f']
    .map((letter, kind) => {
      const { code, sums } = transposingSums(Array.from({ length: folded }, (_, j) => `${letter}${j}`), folded, 1, 'share', `s${letter}`);
      const step = folded === 1 ? 'r' : `(r + share % ${folded})`;
      return `${code}
        sums[${kind * batch * pitch} + ${step} * ${pitch} + channel * ${sharers / folded} + share / ${folded}] = ${sums[0] ?? ''};`;
    })
    .join('\n');
}

/** Stores what the batch of steps from `first` on gives. */
export function flushSums(adjoint: Adjoint): string {
  const { options, given, rowsAtOnce } = adjoint;
  return `
    workgroupBarrier();
    ${loop(options.geometry.unrolled, 'k', Math.max(1, Math.ceil(given.batch / rowsAtOnce)), (k) => storeActivations(adjoint, k))}
    ${given.sequence ? storeSequenceParts(adjoint) : ''}
    workgroupBarrier();`;
}

/** Stores du, dDelta and dz of the steps of turn k, and adds what these give to dD and dDeltaBias. */
function storeActivations({ options, given, rowsAtOnce }: Adjoint, k: Index): string {
  const { geometry, dtype } = options;
  const { lanes, channels, sharers, folded } = geometry;
  const { batch } = given;
  const parts = sharers / folded;
  const pitch = sumsPitch(geometry);
  const loaded = vectorOf(lanes);
  const total = (kind: number, lane: number) =>
    Array.from({ length: parts }, (_, part) => `sums[${kind * batch * pitch} + r * ${pitch} + (loadChannel + ${lane}) * ${parts} + ${part}]`).join(' + ');
  const store = (name: (typeof outputNames)[number], value: string) =>
    given.outputs.includes(name)
      ? `${name}[p.${name}_at + (row * p.channels + loadE) / ${lanes}] = ${vectorOf(lanes, dtype(name))}(${value});`
      : '';
  return `{
        let r = loadRow + ${String(k)} * ${rowsAtOnce};
        let step = start + first + r;
        if (r < ${batch} && loads && step < segmentEnd) {
          var gradientU = ${loaded}(0.0); var gradientDelta = ${loaded}(0.0); var gradientZ = ${loaded}(0.0);
          let at = (first + r) * ${channels} + loadChannel;
          ${perLane(lanes, (lane, of) => `{
            let d = tile[at + ${lane}];
            ${of('gradientU')} = ${of('skip')} * d.z + ${total(1, lane)};
            var slope = 1.0;
            if (p.softplus == 1) { slope = softplus_slope(d.x); }
            ${of('gradientDelta')} = (${total(2, lane)}) * slope;
            ${of('gradientZ')} = d.w * (${of('skip')} * d.y + ${total(0, lane)});
            ${of('dSkip')} += d.z * d.y;
          }`)}
          dBias += gradientDelta;
          let row = sequence + select(step, p.length - 1 - step, p.reverse == 1);
          ${store('du', 'gradientU')}
          ${store('dDelta', 'gradientDelta')}
          ${store('dz', 'gradientZ')}
        }
      }`;
}

/** Stores the workgroup's part of dB and dC of a batch's steps. */
function storeSequenceParts({ options: { geometry }, given: { batch }, channelParts }: Adjoint): string {
  const { threads, paddedStates } = geometry;
  const columns = String(2 * paddedStates);
  return `for (var i = thread; i < ${batch * 2 * paddedStates}; i += ${threads}) {
             let r = i / ${columns};
             let column = i % ${columns};
             var total = 0.0;
             ${repeat(channelParts, (part) => `total += rowSums[(r * ${channelParts} + ${part}) * ${columns} + column];`)}
             let step = start + first + r;
             if (step < segmentEnd) {
               parts[p.parts_at + (group * p.roundRows + sequence + step - p.firstRow) * ${columns} + column] = total;
             }
           }`;
}
