import { fold, type GpuKernel } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { across, teamSum } from '../../../wgsl/rows.js';
import { gather, lanesOf, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';

const threads = 128;
/** Features that a thread may take, one after another: it asks for all their states at once. On an H200 more take longer. */
const mostTurns = 2;
/** Workgroups that fill a GPU. */
const enough = 512;

/**
 * Neighbouring threads share a feature, so that its state is read and written together. A workgroup's features are of one head where there are
 * enough workgroups all the same: its threads then read B and C once for several features.
 */
export const ssdStepGpu: GpuKernel<
  'state' | 'x' | 'delta' | 'A' | 'B' | 'C' | 'D' | 'z' | 'deltaBias' | 'y',
  | ('batch' | 'heads' | 'headSize' | 'groups' | 'stateSize' | 'xPitch' | 'deltaPitch' | 'zPitch' | 'bPitch' | 'cPitch')
  | ('skipByFeature' | 'softplus' | 'deltaLeast' | 'deltaLargest')
> = (launch) => {
  const { gpu, parameters, has, dtype } = launch;
  const { batch, heads, headSize, stateSize } = parameters;
  const lanes = lanesOf(launch, [stateSize], ['state']);
  const vectors = stateSize / lanes;
  // A power of two, so that a feature's threads lie in one workgroup.
  const sharers = Math.min(64, 2 ** Math.ceil(Math.log2(vectors)));
  const together = threads / sharers;
  const elements = batch * heads * headSize;
  const pays = (turns: number) => headSize % (together * turns) === 0 && elements / (together * turns) >= enough;
  const turns = pays(mostTurns) ? mostTurns : 1;
  const weights = (name: 'B' | 'C') =>
    gather(lanes, (lane) => `f32(${name}[p.${name}_at + b * p.${name === 'B' ? 'b' : 'c'}Pitch + group * p.stateSize + n * ${lanes}u + ${lane}u])`);
  const each = (statement: (t: number) => string) => repeat(turns, statement);
  return {
    dispatches: [
      {
        variant: `lanes${lanes} sharers${sharers} turns${turns} ${vectors > sharers}`,
        buffers: [
          { name: 'state', as: vectorOf(lanes) },
          ...['x', 'delta', 'A', 'B', 'C'],
          ...(['D', 'z', 'deltaBias'] as const).filter((name) => has(name)),
          'y',
        ],
        numbers: { elements },
        workgroups: fold(Math.ceil(elements / (together * turns))),
        code: () => `
          ${wgslMath}
          ${teamSum(gpu, 'total', sharers, threads)}
          @compute @workgroup_size(${threads})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let first = flat_workgroup(id, count) * ${together * turns}u + thread / ${sharers}u;
            let present = first < p.elements;
            let share = thread % ${sharers}u;
            let features = p.heads * p.headSize;
            let b = first / features;
            let h = first % features / p.headSize;
            let group = h * p.groups / p.heads;
            let vectors = p.stateSize / ${lanes}u;
            ${each((t) => `
            let e${t} = first % features + ${t * together}u;
            var input${t} = 0.0;
            var sum${t} = ${vectorOf(lanes)}();`)}
            if (present) {
              ${each((t) => `input${t} = f32(x[p.x_at + b * p.xPitch + e${t}]);`)}
              var step = f32(delta[p.delta_at + b * p.deltaPitch + h])${has('deltaBias') ? ' + deltaBias[p.deltaBias_at + h]' : ''};
              if (p.softplus == 1u) { step = softplus(step); }
              if (step < p.deltaLeast) { step = p.deltaLeast; }
              if (step > p.deltaLargest) { step = p.deltaLargest; }
              let decay = exp(step * A[p.A_at + h]);
              ${vectors > sharers ? `for (var n = share; n < vectors; n += ${sharers}u)` : 'let n = share; if (n < vectors)'} {
                ${each((t) => `
                let at${t} = p.state_at + (first + ${t * together}u) * vectors + n;
                let before${t} = state[at${t}];`)}
                let to_state = step * ${weights('B')};
                let from_state = ${weights('C')};
                ${each((t) => `
                let next${t} = decay * before${t} + input${t} * to_state;
                state[at${t}] = next${t};
                sum${t} += next${t} * from_state;`)}
              }
            }
            ${each((t) => `
            var y${t} = total(thread, ${across(`sum${t}`, lanes)});
            if (present && share == 0u) {
              ${has('D') ? `y${t} += D[p.D_at + select(h, e${t}, p.skipByFeature == 1u)] * input${t};` : ''}
              ${has('z') ? `y${t} *= silu(f32(z[p.z_at + b * p.zPitch + e${t}]));` : ''}
              y[p.y_at + first + ${t * together}u] = ${saturated(1, dtype('y') ?? 'f32', `y${t}`)};
            }`)}
          }`,
      },
    ],
  };
};
