import { fold, type GpuKernel } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { gather, lanesOf, saturated, vectorOf } from '../../../wgsl/vectors.js';

const workgroupSize = 64;

/** Neighbouring invocations share a feature, so that its state is read and written together; the sum over them goes through workgroup memory. */
export const ssdStepGpu: GpuKernel<
  'state' | 'x' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias' | 'y',
  | ('batch' | 'heads' | 'headSize' | 'groups' | 'stateSize' | 'xPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch')
  | ('skipByFeature' | 'softplus' | 'deltaLeast' | 'deltaLargest')
> = (launch) => {
  const { parameters, has, dtype } = launch;
  const { batch, heads, headSize, stateSize } = parameters;
  const lanes = lanesOf(launch, [stateSize], ['state']);
  // A power of two, so that a feature's invocations lie in one workgroup.
  const sharers = Math.min(workgroupSize, 2 ** Math.ceil(Math.log2(stateSize / lanes)));
  const weights = (name: 'B' | 'C') =>
    gather(lanes, (lane) => `f32(${name}[p.${name}_at + b * p.${name === 'B' ? 'b' : 'c'}Pitch + group * p.stateSize + n * ${lanes}u + ${lane}u])`);
  return {
    dispatches: [
      {
        variant: `lanes${lanes} sharers${sharers}`,
        buffers: [
          { name: 'state', as: vectorOf(lanes) },
          ...['x', 'delta', 'A', 'B', 'C'],
          ...(['D', 'z', 'deltaBias'] as const).filter((name) => has(name)),
          'y',
        ],
        numbers: { elements: batch * heads * headSize },
        workgroups: fold(Math.ceil((batch * heads * headSize * sharers) / workgroupSize)),
        code: () => `
          ${wgslMath}
          var<workgroup> shares: array<f32, ${workgroupSize}>;
          @compute @workgroup_size(${workgroupSize})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let element = (flat_workgroup(id, count) * ${workgroupSize}u + thread) / ${sharers}u;
            let present = element < p.elements;
            let share = thread % ${sharers}u;
            let features = p.heads * p.headSize;
            let b = element / features;
            let e = element % features;
            let h = e / p.headSize;
            let group = h * p.groups / p.heads;
            var input = 0.0;
            var sum = 0.0;
            if (present) {
              input = f32(x[p.x_at + b * p.xPitch + e]);
              var step = f32(delta[p.delta_at + b * p.deltaPitch + h])${has('deltaBias') ? ' + deltaBias[p.deltaBias_at + h]' : ''};
              if (p.softplus == 1u) { step = softplus(step); }
              if (step < p.deltaLeast) { step = p.deltaLeast; }
              if (step > p.deltaLargest) { step = p.deltaLargest; }
              let decay = exp(step * A[p.A_at + h]);
              let vectors = p.stateSize / ${lanes}u;
              for (var n = share; n < vectors; n += ${sharers}u) {
                let at = p.state_at + element * vectors + n;
                let next = decay * state[at] + step * input * ${weights('B')};
                state[at] = next;
                sum += ${lanes === 4 ? `dot(next, ${weights('C')})` : `next * ${weights('C')}`};
              }
            }
            shares[thread] = sum;
            workgroupBarrier();
            if (present && share == 0u) {
              for (var i = 1u; i < ${sharers}u; i++) { sum += shares[thread + i]; }
              ${has('D') ? 'sum += D[p.D_at + select(h, e, p.skipByFeature == 1u)] * input;' : ''}
              ${has('z') ? 'sum *= silu(f32(z[p.z_at + b * p.zPitch + e]));' : ''}
              y[p.y_at + element] = ${saturated(1, dtype('y') ?? 'f32', 'sum')};
            }
          }`,
      },
    ],
  };
};
