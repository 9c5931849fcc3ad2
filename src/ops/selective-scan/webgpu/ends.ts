import type { GpuDispatch } from '../../../tensor/index.js';
import { gather, laneOf, repeat, vectorOf } from '../../../wgsl/vectors.js';
import { discretizationCode } from './math.js';
import {
  eachPass,
  fetchCode,
  nextVariables,
  perLane,
  placeRows,
  rowVector,
  sharedCode,
  stateVectors,
  whoCode,
  type WalkOptions,
} from './walk.js';

/**
 * The states at the ends of segments that started from zero, for all of them at the same time, and what becomes of a state over
 * a segment: ΣΔ (it is multiplied by exp(A·ΣΔ)) and whether it is dropped. `ends` is [B, segments, paddedStates + 2, E].
 * 'backward' walks the adjoint: λ ← exp(ΔA)·(λ + C·dy·silu(z)) from the last step of a segment to its first.
 */
export function endsDispatch(
  options: WalkOptions,
  direction: 'forward' | 'backward',
  given: { readonly z: boolean; readonly dy: boolean },
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasStarts, hold, ends } = options;
  const { width, lanes, channels, threads, tile, paddedStates, states, sharers } = geometry;
  const forward = direction === 'forward';
  const activations = forward ? ['u', 'delta'] : ['delta', ...(given.dy ? ['dy'] : []), ...(given.z ? ['z'] : [])];
  const rowsAtOnce = (threads * lanes) / channels;
  const loaded = vectorOf(lanes);
  const q = (code: (q: number) => string) => repeat(stateVectors(geometry), code);
  const forget = `if (resets[t] != 0.0) { dropped = 1.0; ${q((i) => `h${String(i)} = ${vectorOf(width)}(0.0);`)} }`;
  return {
    variant: `ends ${JSON.stringify([direction, geometry, hasStarts, hold, given.z, given.dy])}`,
    buffers: [
      ...activations.map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      { name: 'coefficients', as: vectorOf(width), access: 'read' as const },
      ends,
    ],
    numbers,
    workgroups,
    code: () => `
      ${discretizationCode(width, hold && forward)}
      ${sharedCode(options)}
      var<workgroup> tile: array<vec2<f32>, ${String(tile * channels)}>;
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${String(lane)}, p.channels - 1) * 2 + 1)`)};
        ${q((i) => `var h${String(i)} = ${vectorOf(width)}(0.0);`)}
        var total = 0.0;
        var dropped = 0.0;
        ${nextVariables(options, activations)}
        let tiles = (segmentEnd - segmentStart + ${String(tile - 1)}) / ${String(tile)};
        let first = segmentStart${forward ? '' : ` + (tiles - 1) * ${String(tile)}`};
        ${fetchCode(options, activations, 'first')}
        for (var i = 0u; i < tiles; i++) {
          let start = ${forward ? `segmentStart + i * ${String(tile)}` : `segmentStart + (tiles - 1 - i) * ${String(tile)}`};
          if (i > 0) { workgroupBarrier(); }
          ${placeRows(options)}
          ${threads * lanes > channels * tile ? `if (loadRow < ${String(tile)})` : ''} {
            ${eachPass(geometry, (k) => {
              const next = (name: string) => `${loaded}(next_${name}[${k}])`;
              return `{
                var step = ${next('delta')} + bias;
                ${perLane(lanes, (_, of) => `if (p.softplus == 1) { ${of('step')} = softplus(${of('step')}); }`)}
                var other = ${forward ? next('u') : given.dy ? next('dy') : `${loaded}(0.0)`};
                ${!forward && given.z ? `let gate = ${next('z')}; ${perLane(lanes, (_, of) => `${of('other')} *= silu(${of('gate')});`)}` : ''}
                ${forward && !hold ? 'other *= step;' : ''}
                if (!loaded[${k}]) { step = ${loaded}(0.0); other = ${loaded}(0.0); }
                let at = (loadRow + ${k} * ${String(rowsAtOnce)}) * ${String(channels)} + loadChannel;
                ${repeat(lanes, (lane) => `tile[at + ${String(lane)}] = vec2<f32>(${laneOf(lanes, 'step', lane)}, ${laneOf(lanes, 'other', lane)});`)}
              }`;
            })}
          }
          if (i + 1 < tiles) {
            let next = ${forward ? `start + ${String(tile)}` : `start - ${String(tile)}`};
            ${fetchCode(options, activations, 'next')}
          }
          workgroupBarrier();
          for (var n = 0u; n < ${String(tile)}; n++) {
            let t = ${forward ? 'n' : `${String(tile - 1)} - n`};
            let d = tile[t * ${String(channels)} + channel];
            total += d.x;
            ${hasStarts && forward ? forget : ''}
            ${q((i) =>
              forward
                ? `{ let x2 = a${String(i)} * d.x;
                     h${String(i)} = decay(x2) * h${String(i)} + ${hold ? '(gain(x2, d.x) * d.y)' : 'd.y'} * ${rowVector(options, 'B', 't', i)}; }`
                : `h${String(i)} = decay(a${String(i)} * d.x) * (h${String(i)} + d.y * ${rowVector(options, 'C', 't', i)});`,
            )}
            ${hasStarts && !forward ? forget : ''}
          }
        }
        if (present) {
          let to = p.${ends}_at + p.endsAt + (b * p.segmentCount + segment) * ${String(paddedStates + 2)} * p.channels + e;
          ${q((i) => repeat(width, (lane) => `${ends}[to + (share * ${String(states)} + ${String(i * width + lane)}) * p.channels] = ${laneOf(width, `h${String(i)}`, lane)};`))}
          if (share == ${String(sharers - 1)}) {
            ${ends}[to + ${String(paddedStates)} * p.channels] = total;
            ${ends}[to + ${String(paddedStates + 1)} * p.channels] = dropped;
          }
        }
      }`,
  };
}
