import type { GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { channelsIn, channelsOut, paddedBatch, threads, type BlockLaunch } from './extents.js';
import { outProduct } from './out-product.js';
import { wide } from './wide.js';

/** Threads that share a channel, each with 4 states. */
const group = 4;
/** Numbers of x_proj that a thread asks for at once, each of another workgroup. */
const slicesAhead = 8;

/** Δ, the step of the state, the gate, and a part of out_proj where it is given: of some channels of a sequence. */
export function leave({ gpu, parameters, dtype, has }: BlockLaunch): GpuDispatch {
  const { batch, width, channels, rank, stateSize } = parameters;
  const selected = rank + 2 * stateSize;
  const slices = channels / channelsIn(channels);
  const teams = Math.floor(threads / selected);
  const perLoop = slicesAhead * teams;
  const lanes = rank % 4 === 0 ? 4 : 1;
  const dtLoads = Math.ceil(rank / lanes / group);
  const dtIndex = (i: number) => `share + ${i * group}u`;
  const dtValues = (i: number) => gather(lanes, (lane) => `chosen[${lanes}u * (${dtIndex(i)}) + ${lane}u]`);
  /** B or C of the thread's states. */
  const ofStates = (start: number) => gather(4, (lane) => `chosen[${start}u + 4u * share + ${lane}u]`);
  const out = has('outProj') ? outProduct(width, dtype('outProj')) : null;
  return {
    variant: `leave ${[width, channels, rank].join(' ')}`,
    buffers: [
      { name: 'inner', access: 'read' },
      { name: 'dtProj', as: vectorOf(lanes, dtype('dtProj')) },
      'dtBias',
      { name: 'A', as: 'vec4<f32>' },
      'D',
      { name: 'ssmState', as: 'vec4<f32>' },
      ...(out ? [{ name: 'outProj', as: wide(dtype('outProj')).as }] : []),
      'y',
    ],
    numbers: { padded: paddedBatch(batch) },
    workgroups: [channels / channelsOut, batch],
    code: () => `
      ${wgslMath}
      ${teamSum(gpu, 'total', group, threads)}
      var<workgroup> sums: array<f32, ${teams * selected}>;
      // dt, B and C of this sequence.
      var<workgroup> chosen: array<f32, ${selected}>;
      ${out?.declarations ?? ''}
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let b = id.y;
        let share = thread % ${group}u;
        let e = id.x * ${channelsOut}u + thread / ${group}u;
        ${out?.ahead ?? ''}
        let dtProj_row = p.dtProj_at + e * ${rank / lanes}u;
        ${repeat(dtLoads, (i) => `let w${i} = ${vectorOf(lanes)}(dtProj[dtProj_row + min(${dtIndex(i)}, ${rank / lanes - 1}u)]);`)}
        let place = p.ssmState_at + (b * p.channels + e) * 4u + share;
        let before = ssmState[place];
        let A4 = A[p.A_at + e * 4u + share];
        let input = inner[p.inner_at + b * 2u * p.channels + e];
        let z = inner[p.inner_at + (b * 2u + 1u) * p.channels + e];
        let bias = dtBias[p.dtBias_at + e];
        let skip = D[p.D_at + e];

        if (thread < ${teams * selected}u) {
          let at = p.inner_at + 2u * p.channels * p.batch + b * ${selected}u + thread % ${selected}u;
          let pitch = p.padded * ${selected}u;
          var sum = 0.0;
          for (var slice = thread / ${selected}u; slice < ${slices}u; slice += ${perLoop}u) {
            ${repeat(slicesAhead, (i) => {
              const index = `slice + ${i * teams}u`;
              return slices % perLoop === 0
                ? `let v${i} = inner[at + (${index}) * pitch];`
                : `let v${i} = select(0.0, inner[at + min(${index}, ${slices - 1}u) * pitch], ${index} < ${slices}u);`;
            })}
            sum += ${Array.from({ length: slicesAhead }, (_, i) => `v${i}`).join(' + ')};
          }
          sums[thread] = sum;
        }
        workgroupBarrier();
        if (thread < ${selected}u) {
          chosen[thread] = ${Array.from({ length: teams }, (_, i) => `sums[thread + ${i * selected}u]`).join(' + ')};
        }
        workgroupBarrier();
        var dt = 0.0;
        ${repeat(dtLoads, (i) => {
          const term = lanes === 1 ? `w${i} * ${dtValues(i)}` : `dot(w${i}, ${dtValues(i)})`;
          return (i + 1) * group * lanes <= rank ? `dt += ${term};` : `if (${dtIndex(i)} < ${rank / lanes}u) { dt += ${term}; }`;
        })}
        let delta = softplus(total(thread, dt) + bias);
        // Below −100 the exponential is zero in float32 anyway.
        let h = exp(max(delta * A4, vec4<f32>(-100.0))) * before + (delta * input) * ${ofStates(rank)};
        ssmState[place] = h;
        let scanned = total(thread, dot(h, ${ofStates(rank + stateSize)}));
        let gated = (scanned + skip * input) * silu(z);
        ${
          out
            ? `if (share == 0u) { gates[thread / ${group}u] = gated; }
        workgroupBarrier();
        ${out.body}`
            : `if (share == 0u) { y[p.y_at + b * p.channels + e] = ${saturated(1, dtype('y') ?? 'f32', 'gated')}; }`
        }
      }`,
  };
}
