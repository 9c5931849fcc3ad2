import type { GpuDispatch, GpuFeatures } from '../../../tensor/index.js';
import { vectorOf } from '../../../wgsl/vectors.js';
import { declareStates, statesAgain, stepsBack } from './adjoint-steps.js';
import { adjointOf, declareSums, loadersOf, type Adjoint, type AdjointGiven } from './adjoint-sums.js';
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
  sharedCode,
  startCode,
  whoCode,
  type WalkOptions,
} from './walk.js';

/**
 * The walk back over a segment, a chunk at a time: its states again from the kept one, all in registers, then their adjoint.
 * Stores du, dDelta and dz, and parts of what is summed over channels or steps.
 */
export function adjointDispatch(
  gpu: GpuFeatures,
  options: WalkOptions,
  given: AdjointGiven,
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasFirst, hasStarts, segmented, hold } = options;
  const { width, lanes } = geometry;
  return {
    variant: `adjoint ${JSON.stringify([geometry, hasFirst, hasStarts, segmented, hold, given])}`,
    buffers: [
      ...activationsOf(given).map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      { name: 'coefficients', as: vectorOf(width), access: 'read' as const },
      'states',
      ...given.outputs.map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      'parts',
    ],
    numbers,
    workgroups,
    code: () => adjointCode(adjointOf(gpu, options, given)),
  };
}

const activationsOf = ({ dy, z }: AdjointGiven): string[] => ['u', 'delta', ...(dy ? ['dy'] : []), ...(z ? ['z'] : [])];

function adjointCode(adjoint: Adjoint): string {
  const { options, given } = adjoint;
  const { geometry, hold } = options;
  const { width, lanes, channels, threads, tile } = geometry;
  const activations = activationsOf(given);
  const type = vectorOf(width);
  return `
      ${discretizationCode(width, hold)}
      // The slope of softplus where it is y: 1 − exp(−y).
      fn softplus_slope(y: f32) -> f32 {
        return select(1.0 - exp(-y), y * (1.0 - y * (0.5 - y * (0.16666667 - y * (0.041666668 - y * 0.008333334)))), y < 0.1);
      }
      ${sharedCode(options)}
      // Δ, u, dy·silu(z), dy·silu′(z).
      var<workgroup> tile: array<vec4<f32>, ${tile * channels}>;
      ${declareSums(adjoint)}
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${channelCoefficients(geometry, 'bias')};
        let skip = ${channelCoefficients(geometry, 'skip')};
        var dSkip = ${vectorOf(lanes)}(0.0);
        var dBias = ${vectorOf(lanes)}(0.0);
        ${startCode(options, 'carry', 'backward')}
        ${eachVector(geometry, (i) => `let rate${i} = a${i} * ${Math.LN2}; var dA${i} = ${type}(0.0); var nextKept${i} = ${type}(0.0);`)}
        ${nextVariables(options, activations)}
        let tiles = (segmentEnd - segmentStart + ${tile - 1}) / ${tile};
        ${fetchCode(options, activations, `(segmentStart + (tiles - 1) * ${tile})`)}
        ${fetchKept(adjoint, `segmentStart + (tiles - 1) * ${tile}`)}
        for (var i = tiles; i > 0; i--) {
          let start = segmentStart + (i - 1) * ${tile};
          ${placeRows(options)}
          ${placeActivations(adjoint)}
          ${eachVector(geometry, (i) => `let kept${i} = nextKept${i};`)}
          if (i > 1) {
            let next = start - ${tile};
            ${fetchCode(options, activations, 'next')}
            ${fetchKept(adjoint, 'next')}
          }
          workgroupBarrier();
          ${declareStates(geometry)}
          ${statesAgain(options)}
          ${stepsBack(adjoint)}
        }
        ${storeChannelParts(adjoint)}
      }`;
}

/** Asks for the state that the forward scan kept before the tile that begins at `start`. */
const fetchKept = ({ options: { geometry } }: Adjoint, start: string): string => `
    if (present) {
      let kept = p.states_at + (b * ((p.length + p.chunk - 1) / p.chunk) + (${start}) / p.chunk) * p.stateSize * p.channels + e;
      ${eachState(geometry, (n, of) => `if (${n} < p.stateSize) { ${of('nextKept')} = states[kept + (${n}) * p.channels]; }`)}
    }`;

/** Puts what the steps need of the tile asked for into workgroup memory, zeros where there is no such step. */
function placeActivations({ options: { geometry }, given, rowsAtOnce }: Adjoint): string {
  const { lanes, channels, tile } = geometry;
  return `${rowsAtOnce > tile ? `if (loadRow < ${tile})` : ''} {
            ${eachPass(geometry, (k) => {
              const next = (name: string) => `${vectorOf(lanes)}(next_${name}[${k}])`;
              return `{
                let rawDelta = ${next('delta')} + bias;
                let inputs = ${next('u')};
                let dys = ${given.dy ? next('dy') : `${vectorOf(lanes)}(0.0)`};
                ${given.z ? `let gates = ${next('z')};` : ''}
                let at = (loadRow + ${k} * ${rowsAtOnce}) * ${channels} + loadChannel;
                ${perLane(lanes, (lane, of) => `{
                  var delta_t = ${of('rawDelta')};
                  if (p.softplus == 1) { delta_t = softplus(delta_t); }
                  ${
                    given.z
                      ? `let s = sigmoid(${of('gates')});
                         let value = vec4<f32>(delta_t, ${of('inputs')}, ${of('dys')} * ${of('gates')} * s, ${of('dys')} * s * (1.0 + ${of('gates')} * (1.0 - s)));`
                      : `let value = vec4<f32>(delta_t, ${of('inputs')}, ${of('dys')}, 0.0);`
                  }
                  tile[at + ${lane}] = select(vec4<f32>(0.0), value, loaded[${k}]);
                }`)}
              }`;
            })}
          }`;
}

/** Stores what the segment adds to dA, dD, dDeltaBias, and to the initial state's gradient. */
function storeChannelParts({ options: { geometry }, given, rowsAtOnce }: Adjoint): string {
  const { lanes, channels, tile, paddedStates } = geometry;
  return `${rowsAtOnce > tile ? `if (loadRow < ${tile})` : ''} {
          ${perLane(lanes, (lane, of) => `tile[loadRow * ${channels} + loadChannel + ${lane}] = vec4<f32>(${of('dSkip')}, ${of('dBias')}, 0.0, 0.0);`)}
        }
        workgroupBarrier();
        let to = p.parts_at + p.channelPartsAt + unit * ${paddedStates + 2} * p.channels;
        if (present) {
          ${eachState(geometry, (n, of) => `parts[to + (${n}) * p.channels + e] = ${of('dA')};`)}
          ${
            given.initial
              ? `if (segment == 0) {
                   let first = p.parts_at + p.initialAt + b * ${paddedStates} * p.channels + e;
                   ${eachState(geometry, (n, of) => `parts[first + (${n}) * p.channels] = ${of('carry')};`)}
                 }`
              : ''
          }
        }
        let last = group * ${channels} + thread;
        if (thread < ${channels} && last < p.channels) {
          var total = vec4<f32>(0.0);
          for (var r = 0u; r < ${loadersOf(geometry)}; r++) { total += tile[r * ${channels} + thread]; }
          parts[to + ${paddedStates} * p.channels + last] = total.x;
          parts[to + ${paddedStates + 1} * p.channels + last] = total.y;
        }`;
}
