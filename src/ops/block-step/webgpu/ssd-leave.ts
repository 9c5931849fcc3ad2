import type { GpuKernel } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, repeat } from '../../../wgsl/vectors.js';
import { channelsOut, threads } from './extents.js';
import { outProduct } from './out-product.js';
import { behindRow, sharersOf, type SsdLeaveLaunch } from './ssd-extents.js';
import { wide } from './wide.js';

/** The step of the state, the gate, and a part of out_proj: of 64 channels of a head of a sequence. */
export const ssdBlockLeaveGpu: GpuKernel<Parameters<SsdLeaveLaunch['has']>[0], keyof SsdLeaveLaunch['parameters']> = ({ gpu, parameters, dtype, has }) => {
  const { batch, width, heads, headSize, groups, stateSize } = parameters;
  const channels = heads * headSize;
  const parts = channels / channelsOut;
  const sharers = sharersOf(stateSize);
  const together = threads / sharers;
  const out = outProduct(width, dtype('outProj'), width + behindRow);
  const each = (statement: (t: number) => string) => repeat(channelsOut / together, statement);
  const weights = (first: string) => gather(4, (lane) => `projected[${first} + group * p.stateSize + 4u * share + ${lane}u]`);
  return {
    dispatches: [
      {
        variant: `${[width, channels, stateSize].join(' ')}`,
        buffers: [
          'projected',
          ...['dtBias', 'A', 'D'],
          { name: 'ssmState', as: 'vec4<f32>' },
          ...(has('normWeight') ? ['normWeight'] : []),
          { name: 'outProj', as: wide(dtype('outProj')).as },
          'y',
        ],
        numbers: { channels, outputs: 2 * channels + 2 * groups * stateSize + heads, parts },
        workgroups: [parts, batch],
        code: () => `
      ${wgslMath}
      ${teamSum(gpu, 'total', sharers, threads)}
      ${teamSum(gpu, 'sum_of_squares', channelsOut, threads)}
      ${out.declarations}
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let b = id.y;
        let share = thread % ${sharers}u;
        let slot = thread / ${sharers}u;
        let h = id.x * ${channelsOut}u / p.headSize;
        let group = h * p.groups / p.heads;
        let row = p.projected_at + b * p.outputs;
        let inputs = row + p.channels + id.x * ${channelsOut}u;
        ${out.ahead}
        ${each((t) => `
        let at${t} = p.ssmState_at + (b * p.channels + id.x * ${channelsOut}u + slot + ${t * together}u) * ${sharers}u + share;
        let before${t} = ssmState[at${t}];
        let input${t} = projected[inputs + slot + ${t * together}u];`)}
        let own = min(thread, ${channelsOut - 1}u);
        let own_input = projected[inputs + own];
        let z = projected[inputs - p.channels + own];
        ${has('normWeight') ? `let gain = normWeight[p.normWeight_at + id.x * ${channelsOut}u + own];` : ''}
        let skip = D[p.D_at + h];
        var delta = softplus(projected[row + 2u * p.channels + 2u * p.groups * p.stateSize + h] + dtBias[p.dtBias_at + h]);
        if (delta < p.deltaLeast) { delta = p.deltaLeast; }
        if (delta > p.deltaLargest) { delta = p.deltaLargest; }
        let decay = exp(delta * A[p.A_at + h]);
        let to_state = delta * ${weights('row + 2u * p.channels')};
        let from_state = ${weights('row + 2u * p.channels + p.groups * p.stateSize')};
        ${each((t) => `
        let next${t} = decay * before${t} + input${t} * to_state;
        ssmState[at${t}] = next${t};
        let scanned${t} = total(thread, dot(next${t}, from_state));
        if (share == 0u) { gates[slot + ${t * together}u] = scanned${t}; }`)}
        workgroupBarrier();
        let gated = (gates[own] + skip * own_input) * silu(z);
        let squares = sum_of_squares(thread, gated * gated);
        workgroupBarrier();
        if (thread < ${channelsOut}u) { gates[thread] = gated${has('normWeight') ? ' * gain' : ''}; }
        // The sum over all parts is the square that the norm divides by: the next block does.
        if (thread < ${behindRow}u) {
          let mean = ${has('normWeight') ? 'squares / f32(p.channels) + p.epsilon / f32(p.parts)' : '1.0 / f32(p.parts)'};
          y[p.y_at + (id.x * p.batch + b) * ${width + behindRow}u + ${width}u + thread] = select(0.0, mean, thread == 0u);
        }
        workgroupBarrier();
        ${out.body}
      }`,
      },
    ],
  };
};
