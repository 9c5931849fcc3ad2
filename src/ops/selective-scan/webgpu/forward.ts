import { fold, type GpuDispatch, type GpuKernel } from '../../../tensor/index.js';
import { gather, lanesFor, laneOf, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { endsDispatch } from './ends.js';
import { cutLength, layOut, longestTile, packCoefficients, type Geometry } from './layout.js';
import { discretizationCode } from './math.js';
import {
  activationPasses,
  dotCode,
  eachPass,
  fetchCode,
  nextVariables,
  perLane,
  placeRows,
  rowVector,
  sharedBytes,
  sharedCode,
  startCode,
  stateVectors,
  transposingSums,
  whoCode,
  type WalkOptions,
} from './walk.js';

type Buffers =
  | ('u' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias')
  | ('initialState' | 'sequenceStarts' | 'y' | 'finalState' | 'states' | 'carries');
type Parameters =
  | ('batch' | 'length' | 'channels' | 'stateSize' | 'uPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch')
  | ('softplus' | 'reverse' | 'hold' | 'chunk' | 'segments');

/** Elements of y over whose states and steps one dispatch may go: a slow GPU must not be busy for seconds with it. */
export const mostWork = 2 ** 33;

/** Elements between the sums of neighbouring steps: padded, so that the steps of a subgroup fall into different banks. */
const sumsPitch = ({ channels, sharers, folded }: Geometry): number => (channels * sharers) / folded + (folded > 1 ? 8 : 0);

const forwardBytes = (geometry: Geometry): number =>
  sharedBytes(geometry) + geometry.tile * (geometry.channels * 8 + sumsPitch(geometry) * 4);

export const selectiveScanGpu: GpuKernel<Buffers, Parameters> = (launch) => {
  const { gpu, parameters, has, dtype, aligned } = launch;
  const { batch, length, channels, stateSize, uPitch, deltaPitch, zPitch, hold } = parameters;
  const lanes = lanesFor([channels, uPitch, deltaPitch, zPitch], aligned(4, 'u', 'delta', 'z', 'y'));
  const geometry = layOut(gpu, stateSize, lanes === 4, forwardBytes, {
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
      walkDispatch(
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

function walkDispatch(
  options: WalkOptions,
  given: { readonly z: boolean; readonly states: boolean },
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasFirst, hasStarts, segmented, hold } = options;
  const { width, lanes, channels, threads, tile, states, sharers, folded } = geometry;
  const activations = ['u', 'delta', ...(given.z ? ['z'] : [])];
  const rowsAtOnce = (threads * lanes) / channels;
  const loaded = vectorOf(lanes);
  const passes = String(activationPasses(geometry));
  const surplus = threads * lanes > channels * tile;
  const parts = sharers / folded;
  const pitch = sumsPitch(geometry);
  const together = Math.min(tile, geometry.unrolled ? 8 : Math.max(folded, 1));
  const q = (code: (q: number) => string) => repeat(stateVectors(geometry), code);
  const step = (j: number) => `
    let d${String(j)} = tile[(t + ${String(j)}) * ${String(channels)} + channel];
    ${hasStarts ? `if (resets[t + ${String(j)}] != 0.0) { ${q((i) => `h${String(i)} = ${vectorOf(width)}(0.0);`)} }` : ''}
    ${q((i) => {
      const d = `d${String(j)}`;
      const b = rowVector(options, 'B', `t + ${String(j)}`, i);
      return hold
        ? `{ let x2 = a${String(i)} * ${d}.x; h${String(i)} = decay(x2) * h${String(i)} + (gain(x2, ${d}.x) * ${d}.y) * ${b}; }`
        : `h${String(i)} = decay(a${String(i)} * ${d}.x) * h${String(i)} + ${d}.y * ${b};`;
    })}
    let y${String(j)} = ${dotCode(geometry, (i) => `h${String(i)}`, (i) => rowVector(options, 'C', `t + ${String(j)}`, i))};`;
  const keepSums =
    folded === 1
      ? repeat(together, (j) => `sums[(t + ${String(j)}) * ${String(pitch)} + thread] = y${String(j)};`)
      : repeat(together / folded, (group) => {
          const values = Array.from({ length: folded }, (_, j) => `y${String(group * folded + j)}`);
          const { code, sums } = transposingSums(values, folded, 1, 'share', `s${String(group)}_`);
          return `${code}
            sums[(t + ${String(group * folded)} + share % ${String(folded)}) * ${String(pitch)} + channel * ${String(parts)} + share / ${String(folded)}] = ${sums[0] ?? ''};`;
        });
  return {
    variant: `scan ${JSON.stringify([geometry, hasFirst, hasStarts, segmented, hold, given])}`,
    buffers: [
      ...activations.map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      { name: 'coefficients', as: vectorOf(width), access: 'read' as const },
      ...(segmented ? [{ name: 'ends', access: 'read' as const }] : []),
      { name: 'y', as: vectorOf(lanes, dtype('y')) },
      'finalState',
      ...(given.states ? ['states'] : []),
    ],
    numbers,
    workgroups,
    code: () => `
      ${discretizationCode(width, hold)}
      ${sharedCode(options)}
      // Δ, and Δ·u (u where the hold has its own gain).
      var<workgroup> tile: array<vec2<f32>, ${String(tile * channels)}>;
      var<workgroup> sums: array<f32, ${String(tile * pitch)}>;
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${String(lane)}, p.channels - 1) * 2 + 1)`)};
        let skip = ${gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${String(lane)}, p.channels - 1) * 2)`)};
        ${startCode(options, 'h', 'forward')}
        var here: array<bool, ${passes}>;
        ${activations.filter((name) => name !== 'delta').map((name) => `var ${name}_now: array<${loaded}, ${passes}>;`).join('\n')}
        ${nextVariables(options, activations)}
        ${fetchCode(options, activations, 'segmentStart')}
        for (var start = segmentStart; start < segmentEnd; start += ${String(tile)}) {
          ${placeRows(options)}
          ${eachPass(geometry, (k) => {
            const next = (name: string) => `${loaded}(next_${name}[${k}])`;
            return `
              u_now[${k}] = ${next('u')};
              ${given.z ? `z_now[${k}] = ${next('z')};` : ''}
              here[${k}] = loaded[${k}];
              ${surplus ? `if (loadRow < ${String(tile)})` : ''} {
                var delta_t = ${next('delta')} + bias;
                ${perLane(lanes, (_, of) => `if (p.softplus == 1) { ${of('delta_t')} = softplus(${of('delta_t')}); }`)}
                var input = u_now[${k}]${hold ? '' : ' * delta_t'};
                if (!here[${k}]) { delta_t = ${loaded}(0.0); input = ${loaded}(0.0); }
                let at = (loadRow + ${k} * ${String(rowsAtOnce)}) * ${String(channels)} + loadChannel;
                ${repeat(lanes, (lane) => `tile[at + ${String(lane)}] = vec2<f32>(${laneOf(lanes, 'delta_t', lane)}, ${laneOf(lanes, 'input', lane)});`)}
              }`;
          })}
          let next = start + ${String(tile)};
          ${fetchCode(options, activations, 'next')}
          workgroupBarrier();
          for (var t = 0u; t < ${String(tile)}; t += ${String(together)}) {
          ${
            given.states
              ? `if (present && (start + t) % p.chunk == 0 && start + t < segmentEnd) {
                   let to = p.states_at + (b * ((p.length + p.chunk - 1) / p.chunk) + (start + t) / p.chunk) * p.stateSize * p.channels + e;
                   ${q((i) =>
                     repeat(width, (lane) => {
                       const n = `share * ${String(states)} + ${String(i * width + lane)}`;
                       return `if (${n} < p.stateSize) { states[to + (${n}) * p.channels] = ${laneOf(width, `h${String(i)}`, lane)}; }`;
                     }),
                   )}
                 }`
              : ''
          }
            ${repeat(together, step)}
            ${keepSums}
          }
          workgroupBarrier();
          ${eachPass(
            geometry,
            (k) => `if (here[${k}]) {
              let r = loadRow + ${k} * ${String(rowsAtOnce)};
              var value = skip * u_now[${k}];
              ${perLane(lanes, (lane, of) =>
                repeat(parts, (part) => `${of('value')} += sums[r * ${String(pitch)} + (loadChannel + ${String(lane)}) * ${String(parts)} + ${String(part)}];`),
              )}
              ${given.z ? `let gate = z_now[${k}]; ${perLane(lanes, (_, of) => `${of('value')} *= silu(${of('gate')});`)}` : ''}
              let at = start + r;
              let row = sequence + select(at, p.length - 1 - at, p.reverse == 1);
              y[p.y_at + (row * p.channels + loadE) / ${String(lanes)}] = ${saturated(lanes, dtype('y'), 'value')};
            }`,
          )}
        }
        if (present && segmentEnd == p.length) {
          ${q((i) =>
            repeat(width, (lane) => {
              const n = `share * ${String(states)} + ${String(i * width + lane)}`;
              return `if (${n} < p.stateSize) { finalState[p.finalState_at + (b * p.channels + e) * p.stateSize + ${n}] = ${laneOf(width, `h${String(i)}`, lane)}; }`;
            }),
          )}
        }
      }`,
  };
}
