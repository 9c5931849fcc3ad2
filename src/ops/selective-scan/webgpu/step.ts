import { fold, type GpuKernel } from '../../../tensor/index.js';
import { gather, saturated } from '../../../wgsl/vectors.js';
import { discretizationCode } from './math.js';

const workgroupSize = 64;

/**
 * Neighbouring invocations share a channel, so that its states are read and written together; the sum over them goes through
 * workgroup memory.
 */
export const selectiveScanStepGpu: GpuKernel<
  'state' | 'u' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias' | 'y',
  'batch' | 'channels' | 'stateSize' | 'uPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch' | 'softplus' | 'hold'
> = ({ parameters: { batch, channels, stateSize, hold }, has, dtype, aligned }) => {
  const lanes = stateSize % 4 === 0 && aligned(4, 'state', 'A') ? 4 : 1;
  // A power of two, so that a channel's invocations lie in one workgroup.
  const sharers = Math.min(workgroupSize, 2 ** Math.ceil(Math.log2(stateSize / lanes)));
  const type = lanes === 4 ? 'vec4<f32>' : 'f32';
  const row = (name: 'B' | 'C') =>
    gather(lanes, (lane) => `f32(${name}[p.${name}_at + b * p.${name.toLowerCase()}Pitch + n * ${lanes} + ${lane}])`);
  return {
    dispatches: [
      {
        variant: `lanes${lanes} sharers${sharers}${hold === 1 ? ' hold' : ''}`,
        buffers: [
          { name: 'state', as: type },
          ...['u', 'delta'],
          { name: 'A', as: type },
          ...['B', 'C'],
          ...(['D', 'z', 'deltaBias'] as const).filter((name) => has(name)),
          'y',
        ],
        numbers: { elements: batch * channels },
        workgroups: fold(Math.ceil((batch * channels * sharers) / workgroupSize)),
        code: () => `
          ${discretizationCode(lanes, hold === 1)}
          var<workgroup> shares: array<f32, ${workgroupSize}>;
          @compute @workgroup_size(${workgroupSize})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let element = (flat_workgroup(id, count) * ${workgroupSize} + thread) / ${sharers};
            let present = element < p.elements;
            let share = thread % ${sharers};
            let b = element / p.channels;
            let e = element % p.channels;
            var input = 0.0;
            var sum = 0.0;
            if (present) {
              input = f32(u[p.u_at + b * p.uPitch + e]);
              var step = f32(delta[p.delta_at + b * p.deltaPitch + e])${has('deltaBias') ? ' + deltaBias[p.deltaBias_at + e]' : ''};
              if (p.softplus == 1) { step = softplus(step); }
              let vectors = p.stateSize / ${lanes};
              for (var n = share; n < vectors; n += ${sharers}) {
                let x2 = step * ${Math.LOG2E} * A[p.A_at + e * vectors + n];
                let at = p.state_at + element * vectors + n;
                let h = decay(x2) * state[at] + ${hold === 1 ? 'gain(x2, step)' : 'step'} * input * ${row('B')};
                state[at] = h;
                sum += ${lanes === 4 ? `dot(h, ${row('C')})` : `h * ${row('C')}`};
              }
            }
            shares[thread] = sum;
            workgroupBarrier();
            if (present && share == 0) {
              for (var i = 1u; i < ${sharers}; i++) { sum += shares[thread + i]; }
              ${has('D') ? 'sum += D[p.D_at + e] * input;' : ''}
              ${has('z') ? 'sum *= silu(f32(z[p.z_at + b * p.zPitch + e]));' : ''}
              y[p.y_at + element] = ${saturated(1, dtype('y') ?? 'f32', 'sum')};
            }
          }`,
      },
    ],
  };
};
