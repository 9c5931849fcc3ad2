import type { GpuDispatch } from '../../../tensor/index.js';
import { laneOf, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { sumsPitch, type Geometry } from './layout.js';
import { discretizationCode } from './math.js';
import {
  activationPasses,
  channelCoefficients,
  dotCode,
  eachPass,
  eachState,
  eachVector,
  fetchCode,
  nextVariables,
  perLane,
  placeRows,
  rowVector,
  sharedBytes,
  sharedCode,
  startCode,
  transposingSums,
  whoCode,
  type WalkOptions,
} from './walk.js';

/** Which optional buffers a walk has. */
interface ScanGiven {
  readonly z: boolean;
  readonly states: boolean;
}

/** Workgroup memory of the walk. */
export const scanBytes = (geometry: Geometry): number =>
  sharedBytes(geometry) + geometry.tile * (geometry.channels * 8 + sumsPitch(geometry) * 4);

/** The walk over a segment, a tile at a time: y, the states that the backward scan wants, and the final one. */
export function scanDispatch(
  options: WalkOptions,
  given: ScanGiven,
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasFirst, hasStarts, segmented, hold } = options;
  const { width, lanes } = geometry;
  return {
    variant: `scan ${JSON.stringify([geometry, hasFirst, hasStarts, segmented, hold, given])}`,
    buffers: [
      ...activationsOf(given).map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      { name: 'coefficients', as: vectorOf(width), access: 'read' as const },
      ...(segmented ? [{ name: 'ends', access: 'read' as const }] : []),
      { name: 'y', as: vectorOf(lanes, dtype('y')) },
      'finalState',
      ...(given.states ? ['states'] : []),
    ],
    numbers,
    workgroups,
    code: () => scanCode(options, given),
  };
}

const activationsOf = ({ z }: ScanGiven): string[] => ['u', 'delta', ...(z ? ['z'] : [])];

/** Steps whose states are worked out between two visits to workgroup memory for the sums. */
const stepsTogether = ({ tile, unrolled, folded }: Geometry): number => Math.min(tile, unrolled ? 8 : Math.max(folded, 1));

/** Steps that all invocations load, or store, at once. */
const rowsAtOnce = ({ threads, lanes, channels }: Geometry): number => (threads * lanes) / channels;

function scanCode(options: WalkOptions, given: ScanGiven): string {
  const { geometry, hold } = options;
  const { width, lanes, channels, threads, tile } = geometry;
  const activations = activationsOf(given);
  const passes = String(activationPasses(geometry));
  const together = stepsTogether(geometry);
  return `
      ${discretizationCode(width, hold)}
      ${sharedCode(options)}
      // Δ, and Δ·u (u where the hold has its own gain).
      var<workgroup> tile: array<vec2<f32>, ${tile * channels}>;
      var<workgroup> sums: array<f32, ${tile * sumsPitch(geometry)}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${channelCoefficients(geometry, 'bias')};
        let skip = ${channelCoefficients(geometry, 'skip')};
        ${startCode(options, 'h', 'forward')}
        var here: array<bool, ${passes}>;
        ${activations.filter((name) => name !== 'delta').map((name) => `var ${name}_now: array<${vectorOf(lanes)}, ${passes}>;`).join('\n')}
        ${nextVariables(options, activations)}
        ${fetchCode(options, activations, 'segmentStart')}
        for (var start = segmentStart; start < segmentEnd; start += ${tile}) {
          ${placeRows(options)}
          ${placeActivations(options, given)}
          let next = start + ${tile};
          ${fetchCode(options, activations, 'next')}
          workgroupBarrier();
          for (var t = 0u; t < ${tile}; t += ${together}) {
            ${given.states ? keepStates(geometry) : ''}
            ${repeat(together, (j) => step(options, j))}
            ${keepSums(geometry)}
          }
          workgroupBarrier();
          ${storeOutputs(options, given)}
        }
        if (present && segmentEnd == p.length) {
          ${eachState(geometry, (n, of) => `if (${n} < p.stateSize) { finalState[p.finalState_at + (b * p.channels + e) * p.stateSize + ${n}] = ${of('h')}; }`)}
        }
      }`;
}

/** Puts what the steps need of the tile asked for into workgroup memory, zeros where there is no such step; keeps u and z for its outputs. */
function placeActivations({ geometry, hold }: WalkOptions, { z }: ScanGiven): string {
  const { lanes, channels, threads, tile } = geometry;
  const loaded = vectorOf(lanes);
  const surplus = threads * lanes > channels * tile;
  return eachPass(geometry, (k) => {
    const next = (name: string) => `${loaded}(next_${name}[${k}])`;
    return `
              u_now[${k}] = ${next('u')};
              ${z ? `z_now[${k}] = ${next('z')};` : ''}
              here[${k}] = loaded[${k}];
              ${surplus ? `if (loadRow < ${tile})` : ''} {
                var delta_t = ${next('delta')} + bias;
                ${perLane(lanes, (_, of) => `if (p.softplus == 1) { ${of('delta_t')} = softplus(${of('delta_t')}); }`)}
                var input = u_now[${k}]${hold ? '' : ' * delta_t'};
                if (!here[${k}]) { delta_t = ${loaded}(0.0); input = ${loaded}(0.0); }
                let at = (loadRow + ${k} * ${rowsAtOnce(geometry)}) * ${channels} + loadChannel;
                ${repeat(lanes, (lane) => `tile[at + ${lane}] = vec2<f32>(${laneOf(lanes, 'delta_t', lane)}, ${laneOf(lanes, 'input', lane)});`)}
              }`;
  });
}

/** Stores the state before step t where a chunk begins. */
const keepStates = (geometry: Geometry): string => `if (present && (start + t) % p.chunk == 0 && start + t < segmentEnd) {
                   let to = p.states_at + (b * ((p.length + p.chunk - 1) / p.chunk) + (start + t) / p.chunk) * p.stateSize * p.channels + e;
                   ${eachState(geometry, (n, of) => `if (${n} < p.stateSize) { states[to + (${n}) * p.channels] = ${of('h')}; }`)}
                 }`;

/** The state after step t + j, and y{j}, this invocation's share of the output there. */
function step(options: WalkOptions, j: number): string {
  const { geometry, hasStarts, hold } = options;
  const d = `d${j}`;
  const row = (kind: 'B' | 'C', i: number) => rowVector(options, kind, `t + ${j}`, i);
  const forget = eachVector(geometry, (i) => `h${i} = ${vectorOf(geometry.width)}(0.0);`);
  return `
    let ${d} = tile[(t + ${j}) * ${geometry.channels} + channel];
    ${hasStarts ? `if (resets[t + ${j}] != 0.0) { ${forget} }` : ''}
    ${eachVector(geometry, (i) =>
      hold
        ? `{ let x2 = a${i} * ${d}.x; h${i} = decay(x2) * h${i} + (gain(x2, ${d}.x) * ${d}.y) * ${row('B', i)}; }`
        : `h${i} = decay(a${i} * ${d}.x) * h${i} + ${d}.y * ${row('B', i)};`,
    )}
    let y${j} = ${dotCode(geometry, (i) => `h${i}`, (i) => row('C', i))};`;
}

/** The shares of the outputs of steps t, t + 1, … into workgroup memory, summed over neighbours where they fit a subgroup. */
function keepSums(geometry: Geometry): string {
  const { sharers, folded } = geometry;
  const pitch = sumsPitch(geometry);
  const together = stepsTogether(geometry);
  if (folded === 1) return repeat(together, (j) => `sums[(t + ${j}) * ${pitch} + thread] = y${j};`);
  return repeat(together / folded, (group) => {
    const values = Array.from({ length: folded }, (_, j) => `y${group * folded + j}`);
    const { code, sums } = transposingSums(values, folded, 1, 'share', `s${group}_`);
    return `${code}
            sums[(t + ${group * folded} + share % ${folded}) * ${pitch} + channel * ${sharers / folded} + share / ${folded}] = ${sums[0] ?? ''};`;
  });
}

/** Stores the outputs of a tile. */
function storeOutputs({ geometry, dtype }: WalkOptions, { z }: ScanGiven): string {
  const { lanes, sharers, folded } = geometry;
  const parts = sharers / folded;
  const pitch = sumsPitch(geometry);
  return eachPass(
    geometry,
    (k) => `if (here[${k}]) {
              let r = loadRow + ${k} * ${rowsAtOnce(geometry)};
              var value = skip * u_now[${k}];
              ${perLane(lanes, (lane, of) =>
                repeat(parts, (part) => `${of('value')} += sums[r * ${pitch} + (loadChannel + ${lane}) * ${parts} + ${part}];`),
              )}
              ${z ? `let gate = z_now[${k}]; ${perLane(lanes, (_, of) => `${of('value')} *= silu(${of('gate')});`)}` : ''}
              let at = start + r;
              let row = sequence + select(at, p.length - 1 - at, p.reverse == 1);
              y[p.y_at + (row * p.channels + loadE) / ${lanes}] = ${saturated(lanes, dtype('y'), 'value')};
            }`,
  );
}
