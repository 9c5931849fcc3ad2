import { fold, type GpuDispatch, type GpuKernel, type GpuLaunch } from '../../tensor/index.js';
import { wgslMath } from '../webgpu-math.js';
import { saturated, vectorOf } from '../webgpu-vectors.js';
import { isUsual, projectUsual, scanUsual } from './webgpu-usual.js';

type Buffers =
  | 'convState' | 'ssmState' | 'xz' | 'convWeight' | 'convBias' | 'xProj' | 'dtProj' | 'dtBias' | 'A' | 'D' | 'y';
type Extents = 'batch' | 'channels' | 'taps' | 'rank' | 'stateSize' | 'xzPitch';
type Launch = GpuLaunch<Buffers, Extents>;

const threads = 256;
/** Rows of x_proj in a workgroup, and threads that share a row. */
const rows = 16;
const shares = threads / rows;
/** Threads that share a channel of the scan. */
const group = 4;
/** Channels whose convolution a workgroup holds at a time. */
const tile = 2048;

/**
 * Two dispatches. The first works out u anew in every workgroup, which is cheaper than a dispatch of its own, and multiplies
 * it by some rows of x_proj; the second projects Δ, steps the state and moves the convolution's on, which the first still reads.
 */
export const mixerStepGpu: GpuKernel<Buffers, Extents> = (launch) => {
  const { channels, rank, stateSize, batch } = launch.parameters;
  const outputs = rank + 2 * stateSize;
  return {
    scratch: {
      u: { dtype: 'f32', size: batch * channels },
      projected: { dtype: 'f32', size: batch * outputs },
    },
    dispatches: isUsual(launch) ? [projectUsual(launch), scanUsual(launch)] : [project(launch), scan(launch)],
  };
};

function project({ parameters, dtype, has, aligned }: Launch): GpuDispatch {
  const { channels, rank, stateSize, batch } = parameters;
  const outputs = rank + 2 * stateSize;
  const lanes = channels % 4 === 0 && aligned(4, 'xProj') ? 4 : 1;
  const weight = dtype('xProj') ?? 'f32';
  const values = lanes === 1 ? 'inputs[k]' : 'vec4<f32>(inputs[4 * k], inputs[4 * k + 1], inputs[4 * k + 2], inputs[4 * k + 3])';
  const product = lanes === 1 ? `f32(xProj[at + k]) * ${values}` : `dot(vec4<f32>(xProj[at + k]), ${values})`;
  return {
    variant: `project ${String(lanes)}`,
    buffers: [
      'xz', { name: 'convState', access: 'read' }, 'convWeight', ...(has('convBias') ? ['convBias'] : []),
      { name: 'xProj', as: vectorOf(lanes, weight) }, 'u', 'projected',
    ],
    numbers: { outputs },
    workgroups: [Math.ceil(outputs / rows), ...fold(batch)] as [number, number, number],
    code: () => `
      ${wgslMath}
      const tile = ${String(tile)}u;
      var<workgroup> inputs: array<f32, tile>;
      var<workgroup> sums: array<f32, ${String(threads)}>;
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let channels = p.channels;
        let taps = p.taps;
        // Surplus workgroups of the fold repeat the last sequence: barriers need all threads.
        let b = min(id.y + id.z * count.y, p.batch - 1);
        let row = id.x * ${String(rows)} + thread / ${String(shares)};
        var sum = 0.0;
        for (var start = 0u; start < channels; start += tile) {
          let end = min(channels, start + tile);
          for (var e = start + thread; e < end; e += ${String(threads)}u) {
            var pre = ${has('convBias') ? 'convBias[p.convBias_at + e]' : '0.0'};
            for (var tap = 0u; tap + 1 < taps; tap++) {
              pre += convState[p.convState_at + (b * (taps - 1) + tap) * channels + e] * convWeight[p.convWeight_at + e * taps + tap];
            }
            pre += f32(xz[p.xz_at + b * p.xzPitch + e]) * convWeight[p.convWeight_at + e * taps + taps - 1];
            let value = silu(pre);
            inputs[e - start] = value;
            if (id.x == 0) { u[p.u_at + b * channels + e] = value; }
          }
          workgroupBarrier();
          if (row < p.outputs) {
            let at = p.xProj_at + (row * channels + start) / ${String(lanes)};
            for (var k = thread % ${String(shares)}; k < (end - start) / ${String(lanes)}; k += ${String(shares)}u) { sum += ${product}; }
          }
          workgroupBarrier();
        }
        sums[thread] = sum;
        workgroupBarrier();
        if (thread % ${String(shares)} == 0 && row < p.outputs) {
          var total = 0.0;
          for (var i = 0u; i < ${String(shares)}; i++) { total += sums[thread + i]; }
          projected[p.projected_at + b * p.outputs + row] = total;
        }
      }`,
  };
}

function scan({ parameters, dtype, aligned }: Launch): GpuDispatch {
  const { channels, rank, batch } = parameters;
  const lanes = rank % 4 === 0 && aligned(4, 'dtProj') ? 4 : 1;
  const weight = dtype('dtProj') ?? 'f32';
  const dt = (i: string) => `projected[row + ${i}]`;
  const values = lanes === 1 ? dt('r') : `vec4<f32>(${['4 * r', '4 * r + 1', '4 * r + 2', '4 * r + 3'].map(dt).join(', ')})`;
  const product = lanes === 1 ? `f32(dtProj[at + r]) * ${values}` : `dot(vec4<f32>(dtProj[at + r]), ${values})`;
  const half = threads / group;
  return {
    variant: `scan ${String(lanes)}`,
    buffers: [
      'xz', 'convState', 'ssmState', { name: 'u', access: 'read' }, { name: 'projected', access: 'read' },
      { name: 'dtProj', as: vectorOf(lanes, weight) }, 'dtBias', 'A', 'D', 'y',
    ],
    workgroups: [Math.ceil(channels / half), ...fold(batch)] as [number, number, number],
    code: () => `
      ${wgslMath}
      var<workgroup> sums: array<f32, ${String(threads)}>;
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let sequence = id.y + id.z * count.y;
        let b = min(sequence, p.batch - 1);
        let taps = p.taps;
        let states = p.stateSize;
        let rank = p.rank;
        // dt, B and C of this sequence.
        let row = p.projected_at + b * (rank + 2 * states);
        let e = id.x * ${String(half)} + thread / ${String(group)};
        let share = thread % ${String(group)};
        let inside = e < p.channels && sequence < p.batch;
        var sum = 0.0;
        if (inside) {
          let at = p.dtProj_at + e * (rank / ${String(lanes)});
          for (var r = share; r < rank / ${String(lanes)}; r += ${String(group)}u) { sum += ${product}; }
        }
        sums[thread] = sum;
        workgroupBarrier();
        let first = thread - share;
        let dt = (sums[first] + sums[first + 1]) + (sums[first + 2] + sums[first + 3]);
        workgroupBarrier();
        var input = 0.0;
        sum = 0.0;
        if (inside) {
          input = u[p.u_at + b * p.channels + e];
          let delta = softplus(dt + dtBias[p.dtBias_at + e]);
          let state = p.ssmState_at + (b * p.channels + e) * states;
          for (var n = share; n < states; n += ${String(group)}u) {
            // Below −100 the exponential is zero in float32 anyway.
            let h = exp(max(delta * A[p.A_at + e * states + n], -100.0)) * ssmState[state + n] + delta * projected[row + rank + n] * input;
            ssmState[state + n] = h;
            sum += h * projected[row + rank + states + n];
          }
        }
        sums[thread] = sum;
        workgroupBarrier();
        if (inside && share == 0) {
          let total = (sums[first] + sums[first + 1]) + (sums[first + 2] + sums[first + 3]) + D[p.D_at + e] * input;
          let gated = total * silu(f32(xz[p.xz_at + b * p.xzPitch + p.channels + e]));
          y[p.y_at + b * p.channels + e] = ${saturated(1, dtype('y') ?? 'f32', 'gated')};
          for (var tap = 0u; tap + 1 < taps; tap++) {
            let place = p.convState_at + (b * (taps - 1) + tap) * p.channels + e;
            if (tap + 2 < taps) { convState[place] = convState[place + p.channels]; }
            else { convState[place] = f32(xz[p.xz_at + b * p.xzPitch + e]); }
          }
        }
      }`,
  };
}
