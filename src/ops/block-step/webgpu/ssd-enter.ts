import type { GpuBinding, GpuDispatch, GpuKernel } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { fitNormMatrices, hasNormMatrices, normMatrices, normMatrixGroups } from '../../../wgsl/norm-matrices.js';
import { teamSum } from '../../../wgsl/rows.js';
import { laneOf, repeat } from '../../../wgsl/vectors.js';
import { normedBuffers } from './enter-parts.js';
import { threads } from './extents.js';
import { normCode, partsScale, projection, sequencesOf, typeOf } from './norm-rows.js';
import { outputsOfGroup, type SsdEnterLaunch } from './ssd-extents.js';
import { wide } from './wide.js';

/** Fewer sequences share what a workgroup without matrix units reads. */
const leastOnMatrices = 5;

/**
 * Norm, in_proj and convolution: a workgroup norms its rows anew, makes some outputs of in_proj, convolves those of them that are inputs of the
 * convolution, and moves their state on.
 */
export const ssdBlockEnterGpu: GpuKernel<Parameters<SsdEnterLaunch['has']>[0], keyof SsdEnterLaunch['parameters']> = (launch) => ({
  dispatches: [takesMatrices(launch) ? enterMatrices(launch) : enterRows(launch)],
});

/** Whether matrix units can and should do the product. */
const takesMatrices = ({ gpu, parameters: { batch, width, outputs }, dtype }: SsdEnterLaunch): boolean =>
  batch >= leastOnMatrices && dtype('inProj') === 'f16' && hasNormMatrices(gpu) && fitNormMatrices({ columns: width, outputs });

const buffersOf = (launch: SsdEnterLaunch): (string | GpuBinding)[] => [...normedBuffers(launch), 'projected'];

/**
 * WGSL of the convolution: `weights` asks for the weights of output `output` of in_proj, `window` for its last inputs of sequence `b`, and
 * `store` stores `newest`, convolved where the output is an input of the convolution. Names end in `w`, those of a sequence in `s`.
 */
function convolution({ parameters: { taps }, has }: SsdEnterLaunch) {
  const each = (statement: (tap: number) => string) => repeat(taps - 1, statement);
  return {
    weights: (w: string, output: string) => `
        let inside${w} = ${output} >= p.gates && ${output} < p.gates + p.channels;
        let e${w} = select(0u, ${output} - p.gates, inside${w});
        ${repeat(taps, (tap) => `let tap${tap}_${w} = convWeight[p.convWeight_at + e${w} * ${taps}u + ${tap}u];`)}
        let bias${w} = ${has('convBias') ? `convBias[p.convBias_at + e${w}]` : '0.0'};`,
    window: (w: string, s: string, b: string) => `
        let place${s} = p.convState_at + ${b} * ${taps - 1}u * p.channels + e${w};
        ${each((tap) => `let x${tap}_${s} = convState[place${s} + ${tap}u * p.channels];`)}`,
    store: (w: string, s: string, b: string, output: string, newest: string) => `{
          let newest = ${newest};
          var result = newest;
          if (inside${w}) {
            result = silu(bias${w} + newest * tap${taps - 1}_${w} + ${Array.from({ length: taps - 1 }, (_, tap) => `x${tap}_${s} * tap${tap}_${w}`).join(' + ')});
            ${each((tap) => `convState[place${s} + ${tap}u * p.channels] = ${tap + 2 < taps ? `x${tap + 1}_${s}` : 'newest'};`)}
          }
          projected[p.projected_at + ${b} * p.outputs + ${output}] = result;
        }`,
  };
}

function enterRows(launch: SsdEnterLaunch): GpuDispatch {
  const { gpu, parameters, dtype } = launch;
  const { batch, width, xParts, scaled, taps, outputs } = parameters;
  const sequences = sequencesOf(launch, outputsOfGroup, gpu.workgroupBytes);
  const type = typeOf(sequences);
  const shares = threads / outputsOfGroup;
  const { lanes } = wide(dtype('inProj'));
  return {
    variant: `rows ${[width, xParts, scaled, taps, sequences].join(' ')}`,
    buffers: buffersOf(launch),
    workgroups: [Math.ceil(outputs / outputsOfGroup), Math.ceil(batch / sequences)],
    code: () => {
      const project = projection(launch, shares, sequences);
      const conv = convolution(launch);
      const sequenceOf = (s: number) => `min(first + ${s}u, last_sequence)`;
      return `
      ${wgslMath}
      ${teamSum(gpu, 'total', threads, threads, type)}
      ${teamSum(gpu, 'shared_total', shares, threads, type)}
      // Of each sequence the vectors that go with the first four of eight weights, then those that go with the others: no banks are shared.
      var<workgroup> normed: array<vec4<f32>, ${(sequences * width) / 4}>;
      // The outputs, for each sequence.
      var<workgroup> products: array<${type}, ${outputsOfGroup}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let first = id.y * ${sequences}u;
        let last_sequence = p.batch - 1u;
        let own = thread / ${shares}u;
        let share = thread % ${shares}u;
        // Surplus threads read the last output's weights and store nothing.
        let at = p.inProj_at + min(id.x * ${outputsOfGroup}u + own, p.outputs - 1u) * ${width / lanes}u;
        ${project.ahead}
        let output = id.x * ${outputsOfGroup}u + thread % ${outputsOfGroup}u;
        ${conv.weights('', 'output')}
        ${repeat(sequences, (s) => conv.window('', String(s), sequenceOf(s)))}
        ${normCode({ ...launch, scaled: scaled === 1 }, sequences, lanes)}
        workgroupBarrier();
        ${project.product}
        let projected_here = shared_total(thread, product);
        if (share == 0u) { products[own] = projected_here; }
        workgroupBarrier();
        if (thread < ${outputsOfGroup}u && output < p.outputs) {
          ${repeat(sequences, (s) => `if (first + ${s}u <= last_sequence) ${conv.store('', String(s), `(first + ${s}u)`, 'output', laneOf(sequences, 'products[thread]', s))}`)}
        }
      }`;
    },
  };
}

function enterMatrices(launch: SsdEnterLaunch): GpuDispatch {
  const { gpu, parameters, has } = launch;
  const { batch, width, xParts, scaled, taps, outputs } = parameters;
  const extents = { columns: width, outputs };
  const quads = width / 4;
  const pitch = quads + scaled;
  const conv = convolution(launch);
  return {
    variant: `matrices ${[width, xParts, scaled, taps, outputs].join(' ')}`,
    buffers: buffersOf(launch),
    workgroups: normMatrixGroups(batch, extents),
    code: () =>
      normMatrices(gpu, extents, {
        weight: 'inProj',
        rows: 'p.batch',
        functions: wgslMath,
        ahead: (w, output) => `${conv.weights(w, output)} ${conv.window(w, w, 'b')}`,
        load: `
          let at = b * ${quads}u + 2u * octet;
          ${repeat(xParts, (part) => {
            const index = `p.x_at + (${part}u * p.batch + b) * ${pitch}u + 2u * octet`;
            return `low += vec4<f32>(x[${index}]); high += vec4<f32>(x[${index} + 1u]);`;
          })}
          ${scaled === 1 ? partsScale(xParts, quads, 'low', 'high') : ''}
          ${has('residual') ? 'low += vec4<f32>(residual[p.residual_at + at]); high += vec4<f32>(residual[p.residual_at + at + 1u]);' : ''}`,
        sum: has('sum') ? 'sum[p.sum_at + at] = low; sum[p.sum_at + at + 1u] = high;' : '',
        store: (w) => conv.store(w, w, 'b', 'output', 'value'),
      }),
  };
}
