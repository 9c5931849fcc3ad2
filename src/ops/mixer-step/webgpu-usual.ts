import { fold, type GpuDispatch, type GpuLaunch } from '../../tensor/index.js';
import { wgslMath } from '../webgpu-math.js';
import { repeat, saturated } from '../webgpu-vectors.js';

/**
 * The step for the extents of nearly all published models (4 taps, 16 states, widths that are multiples of 4): every thread asks
 * for all that it needs at once, in vectors of four, so that a dispatch waits for memory once and not in every turn of a loop.
 */
type Launch = GpuLaunch<
  'convState' | 'ssmState' | 'xz' | 'convWeight' | 'convBias' | 'xProj' | 'dtProj' | 'dtBias' | 'A' | 'D' | 'y',
  'batch' | 'channels' | 'taps' | 'rank' | 'stateSize' | 'xzPitch'
>;

const threads = 256;
/** Rows of x_proj in a workgroup, and threads that share a row. */
const rows = 2;
const shares = threads / rows;
/** Threads that share a channel of the scan, each with 4 states. */
const group = 4;
/** Channels whose convolution fits a workgroup's memory. */
const mostChannels = 4096;

/** `repeat` with the number as WGSL has it. */
const repeated = (count: number, line: (i: string) => string) => repeat(count, (i) => line(String(i)));

/** Whether the extents and the places of the buffers are the usual ones. */
export function isUsual({ parameters, aligned }: Launch): boolean {
  const { channels, taps, rank, stateSize, xzPitch } = parameters;
  const widths = [channels, rank, xzPitch].every((extent) => extent % 4 === 0);
  const places = aligned(4, 'convState', 'ssmState', 'xz', 'convWeight', 'convBias', 'xProj', 'dtProj', 'A');
  return taps === 4 && stateSize === 16 && widths && channels <= mostChannels && rank > 0 && places;
}

/** u of all channels in every workgroup, and some rows of x_proj·u. */
export function projectUsual({ parameters, dtype, has }: Launch): GpuDispatch {
  const { channels, rank, batch } = parameters;
  const outputs = rank + 32;
  const quads = channels / 4;
  const turns = Math.ceil(quads / threads);
  const loads = Math.ceil(quads / shares);
  const bias = has('convBias');
  return {
    variant: `project usual ${String(channels)}`,
    buffers: [
      { name: 'xz', as: `vec4<${dtype('xz') ?? 'f32'}>` },
      { name: 'convState', as: 'vec4<f32>', access: 'read' },
      { name: 'convWeight', as: 'vec4<f32>' },
      ...(bias ? [{ name: 'convBias', as: 'vec4<f32>' }] : []),
      { name: 'xProj', as: `vec4<${dtype('xProj') ?? 'f32'}>` },
      { name: 'u', as: 'vec4<f32>' },
      'projected',
    ],
    numbers: { outputs },
    workgroups: [Math.ceil(outputs / rows), ...fold(batch)] as [number, number, number],
    code: () => `
      ${wgslMath}
      var<workgroup> inputs: array<vec4<f32>, ${String(quads)}>;
      var<workgroup> sums: array<f32, ${String(threads)}>;
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        // Surplus workgroups of the fold repeat the last sequence: barriers need all threads.
        let b = min(id.y + id.z * count.y, p.batch - 1);
        let row = id.x * ${String(rows)} + thread / ${String(shares)};
        let share = thread % ${String(shares)};
        let at = p.xProj_at + min(row, p.outputs - 1) * ${String(quads)};
        ${repeated(loads, (i) => `let w${i} = vec4<f32>(xProj[at + min(share + ${i} * ${String(shares)}, ${String(quads - 1)}u)]);`)}
        let state = p.convState_at + b * ${String(3 * quads)};
        ${repeated(
          turns,
          (i) => `
        let q${i} = min(thread + ${i} * ${String(threads)}, ${String(quads - 1)}u);
        let s${i}_0 = convState[state + q${i}];
        let s${i}_1 = convState[state + ${String(quads)} + q${i}];
        let s${i}_2 = convState[state + ${String(2 * quads)} + q${i}];
        let x${i} = vec4<f32>(xz[p.xz_at + b * (p.xzPitch / 4) + q${i}]);
        let m${i} = mat4x4<f32>(convWeight[p.convWeight_at + 4 * q${i}], convWeight[p.convWeight_at + 4 * q${i} + 1],
          convWeight[p.convWeight_at + 4 * q${i} + 2], convWeight[p.convWeight_at + 4 * q${i} + 3]);
        let b${i} = ${bias ? `convBias[p.convBias_at + q${i}]` : 'vec4<f32>(0.0)'};`,
        )}
        ${repeated(
          turns,
          (i) => `
        let t${i} = transpose(m${i});
        let pre${i} = b${i} + t${i}[0] * s${i}_0 + t${i}[1] * s${i}_1 + t${i}[2] * s${i}_2 + t${i}[3] * x${i};
        let u${i} = vec4<f32>(silu(pre${i}.x), silu(pre${i}.y), silu(pre${i}.z), silu(pre${i}.w));
        inputs[q${i}] = u${i};
        if (id.x == 0) { u[p.u_at + b * ${String(quads)} + q${i}] = u${i}; }`,
        )}
        workgroupBarrier();
        var sum = 0.0;
        ${repeated(loads, (i) => `if (share + ${i} * ${String(shares)} < ${String(quads)}) { sum += dot(w${i}, inputs[share + ${i} * ${String(shares)}]); }`)}
        sums[thread] = sum;
        for (var step = ${String(shares / 2)}u; step > 0; step /= 2) {
          workgroupBarrier();
          if (share < step) { sums[thread] += sums[thread + step]; }
        }
        if (share == 0 && row < p.outputs) { projected[p.projected_at + b * p.outputs + row] = sums[thread]; }
      }`,
  };
}

/** Δ of some channels, the step of their states, the gate, and the convolution's state moved on. */
export function scanUsual({ parameters, dtype }: Launch): GpuDispatch {
  const { channels, rank, batch } = parameters;
  const quads = rank / 4;
  const loads = Math.ceil(quads / group);
  const channelsOfGroup = threads / group;
  const index = (i: string) => `min(share + ${i} * ${String(group)}, ${String(quads - 1)}u)`;
  return {
    variant: `scan usual ${String(rank)}`,
    buffers: [
      'xz',
      'convState',
      { name: 'ssmState', as: 'vec4<f32>' },
      { name: 'u', access: 'read' },
      { name: 'projected', as: 'vec4<f32>', access: 'read' },
      { name: 'dtProj', as: `vec4<${dtype('dtProj') ?? 'f32'}>` },
      'dtBias',
      { name: 'A', as: 'vec4<f32>' },
      'D',
      'y',
    ],
    workgroups: [Math.ceil(channels / channelsOfGroup), ...fold(batch)] as [number, number, number],
    code: () => `
      ${wgslMath}
      var<workgroup> sums: array<f32, ${String(threads)}>;
      // The sum over the threads of a channel, for all of them.
      fn total(thread: u32, value: f32) -> f32 {
        sums[thread] = value;
        workgroupBarrier();
        let first = thread - thread % ${String(group)};
        let result = (sums[first] + sums[first + 1]) + (sums[first + 2] + sums[first + 3]);
        workgroupBarrier();
        return result;
      }
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let sequence = id.y + id.z * count.y;
        let b = min(sequence, p.batch - 1);
        let wanted = id.x * ${String(channelsOfGroup)} + thread / ${String(group)};
        let e = min(wanted, p.channels - 1);
        let mine = wanted < p.channels && sequence < p.batch;
        let share = thread % ${String(group)};
        let row = p.projected_at + b * ${String(quads + 8)};
        let at = p.dtProj_at + e * ${String(quads)};
        ${repeated(loads, (i) => `let w${i} = vec4<f32>(dtProj[at + ${index(i)}]); let d${i} = projected[row + ${index(i)}];`)}
        let place = p.ssmState_at + (b * p.channels + e) * 4 + share;
        let before = ssmState[place];
        let A4 = A[p.A_at + e * 4 + share];
        let B4 = projected[row + ${String(quads)} + share];
        let C4 = projected[row + ${String(quads + 4)} + share];
        let input = u[p.u_at + b * p.channels + e];
        let bias = dtBias[p.dtBias_at + e];
        let skip = D[p.D_at + e];
        let x = f32(xz[p.xz_at + b * p.xzPitch + e]);
        let z = f32(xz[p.xz_at + b * p.xzPitch + p.channels + e]);
        let window = p.convState_at + b * 3 * p.channels + e;
        let newer = convState[window + p.channels];
        let newest = convState[window + 2 * p.channels];
        var part = 0.0;
        ${repeated(loads, (i) => `if (share + ${i} * ${String(group)} < ${String(quads)}) { part += dot(w${i}, d${i}); }`)}
        let delta = softplus(total(thread, part) + bias);
        // Below −100 the exponential is zero in float32 anyway.
        let h = exp(max(delta * A4, vec4<f32>(-100.0))) * before + (delta * input) * B4;
        let y_sum = total(thread, dot(h, C4));
        if (mine) {
          ssmState[place] = h;
          if (share == 0) {
            let gated = (y_sum + skip * input) * silu(z);
            y[p.y_at + b * p.channels + e] = ${saturated(1, dtype('y') ?? 'f32', 'gated')};
            convState[window] = newer;
            convState[window + p.channels] = newest;
            convState[window + 2 * p.channels] = x;
          }
        }
      }`,
  };
}
