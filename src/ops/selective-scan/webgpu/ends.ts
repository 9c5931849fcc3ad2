import type { GpuDispatch } from '../../../tensor/index.js';
import { laneOf, repeat, vectorOf } from '../../../wgsl/vectors.js';
import { discretizationCode } from './math.js';
import {
  channelCoefficients,
  eachPass,
  eachState,
  eachVector,
  fetchCode,
  nextVariables,
  perLane,
  placeRows,
  rowVector,
  sharedCode,
  whoCode,
  type WalkOptions,
} from './walk.js';

/** Which way a walk goes, and which optional buffers it has. */
interface EndsGiven {
  readonly direction: 'forward' | 'backward';
  readonly z: boolean;
  readonly dy: boolean;
}

/**
 * The states at the ends of segments that started from zero, for all of them at the same time, and what becomes of a state over
 * a segment: ΣΔ (it is multiplied by exp(A·ΣΔ)) and whether it is dropped. `ends` is [B, segments, paddedStates + 2, E].
 * 'backward' walks the adjoint: λ ← exp(ΔA)·(λ + C·dy·silu(z)) from the last step of a segment to its first.
 */
export function endsDispatch(
  options: WalkOptions,
  direction: 'forward' | 'backward',
  { z, dy }: { readonly z: boolean; readonly dy: boolean },
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasStarts, hold, ends } = options;
  const given = { direction, z, dy };
  return {
    variant: `ends ${JSON.stringify([direction, geometry, hasStarts, hold, z, dy])}`,
    buffers: [
      ...activationsOf(given).map((name) => ({ name, as: vectorOf(geometry.lanes, dtype(name)) })),
      { name: 'coefficients', as: vectorOf(geometry.width), access: 'read' as const },
      ends,
    ],
    numbers,
    workgroups,
    code: () => endsCode(options, given),
  };
}

const activationsOf = ({ direction, z, dy }: EndsGiven): string[] =>
  direction === 'forward' ? ['u', 'delta'] : ['delta', ...(dy ? ['dy'] : []), ...(z ? ['z'] : [])];

function endsCode(options: WalkOptions, given: EndsGiven): string {
  const { geometry, hold, ends } = options;
  const { width, channels, threads, tile, paddedStates, sharers } = geometry;
  const forward = given.direction === 'forward';
  const activations = activationsOf(given);
  return `
      ${discretizationCode(width, hold && forward)}
      ${sharedCode(options)}
      var<workgroup> tile: array<vec2<f32>, ${tile * channels}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${channelCoefficients(geometry, 'bias')};
        ${eachVector(geometry, (i) => `var h${i} = ${vectorOf(width)}(0.0);`)}
        var total = 0.0;
        var dropped = 0.0;
        ${nextVariables(options, activations)}
        let tiles = (segmentEnd - segmentStart + ${tile - 1}) / ${tile};
        let first = segmentStart${forward ? '' : ` + (tiles - 1) * ${tile}`};
        ${fetchCode(options, activations, 'first')}
        for (var i = 0u; i < tiles; i++) {
          let start = ${forward ? `segmentStart + i * ${tile}` : `segmentStart + (tiles - 1 - i) * ${tile}`};
          if (i > 0) { workgroupBarrier(); }
          ${placeRows(options)}
          ${placeActivations(options, given)}
          if (i + 1 < tiles) {
            let next = ${forward ? `start + ${tile}` : `start - ${tile}`};
            ${fetchCode(options, activations, 'next')}
          }
          workgroupBarrier();
          for (var n = 0u; n < ${tile}; n++) {
            ${step(options, forward)}
          }
        }
        if (present) {
          let to = p.${ends}_at + p.endsAt + (b * p.segmentCount + segment) * ${paddedStates + 2} * p.channels + e;
          ${eachState(geometry, (n, of) => `${ends}[to + (${n}) * p.channels] = ${of('h')};`)}
          if (share == ${sharers - 1}) {
            ${ends}[to + ${paddedStates} * p.channels] = total;
            ${ends}[to + ${paddedStates + 1} * p.channels] = dropped;
          }
        }
      }`;
}

/** Puts Δ and what the state takes in of the tile asked for into workgroup memory, zeros where there is no such step. */
function placeActivations({ geometry, hold }: WalkOptions, { direction, z, dy }: EndsGiven): string {
  const { lanes, channels, threads, tile } = geometry;
  const forward = direction === 'forward';
  const rowsAtOnce = (threads * lanes) / channels;
  const zero = `${vectorOf(lanes)}(0.0)`;
  return `${rowsAtOnce > tile ? `if (loadRow < ${tile})` : ''} {
            ${eachPass(geometry, (k) => {
              const next = (name: string) => `${vectorOf(lanes)}(next_${name}[${k}])`;
              return `{
                var step = ${next('delta')} + bias;
                ${perLane(lanes, (_, of) => `if (p.softplus == 1) { ${of('step')} = softplus(${of('step')}); }`)}
                var other = ${forward ? next('u') : dy ? next('dy') : zero};
                ${!forward && z ? `let gate = ${next('z')}; ${perLane(lanes, (_, of) => `${of('other')} *= silu(${of('gate')});`)}` : ''}
                ${forward && !hold ? 'other *= step;' : ''}
                if (!loaded[${k}]) { step = ${zero}; other = ${zero}; }
                let at = (loadRow + ${k} * ${rowsAtOnce}) * ${channels} + loadChannel;
                ${repeat(lanes, (lane) => `tile[at + ${lane}] = vec2<f32>(${laneOf(lanes, 'step', lane)}, ${laneOf(lanes, 'other', lane)});`)}
              }`;
            })}
          }`;
}

/** One step of the state, or of its adjoint: the n-th of the tile in the walk's direction. */
function step(options: WalkOptions, forward: boolean): string {
  const { geometry, hasStarts, hold } = options;
  const { width, channels, tile } = geometry;
  const forget = `if (resets[t] != 0.0) { dropped = 1.0; ${eachVector(geometry, (i) => `h${i} = ${vectorOf(width)}(0.0);`)} }`;
  return `let t = ${forward ? 'n' : `${tile - 1} - n`};
            let d = tile[t * ${channels} + channel];
            total += d.x;
            ${hasStarts && forward ? forget : ''}
            ${eachVector(geometry, (i) =>
              forward
                ? `{ let x2 = a${i} * d.x;
                     h${i} = decay(x2) * h${i} + ${hold ? '(gain(x2, d.x) * d.y)' : 'd.y'} * ${rowVector(options, 'B', 't', i)}; }`
                : `h${i} = decay(a${i} * d.x) * (h${i} + d.y * ${rowVector(options, 'C', 't', i)});`,
            )}
            ${hasStarts && !forward ? forget : ''}`;
}
