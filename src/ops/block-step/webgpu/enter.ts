import type { GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, laneOf, repeat } from '../../../wgsl/vectors.js';
import { convolution, enterBuffers } from './enter-parts.js';
import { channelsIn, paddedBatch, threads, type BlockLaunch } from './extents.js';
import { normCode, projection, sequencesOf, typeOf } from './norm-rows.js';
import { wide, wideDot } from './wide.js';

/**
 * Norm, in_proj, convolution, and a part of x_proj: x, z and u of some channels, of up to 4 sequences, which share what is read of
 * the weights. All that does not wait for the norm is asked for before it.
 */
export function enter(launch: BlockLaunch): GpuDispatch {
  const { gpu, parameters } = launch;
  const { batch, width, xParts, channels, taps, rank, stateSize } = parameters;
  const own = channelsIn(channels);
  const sequences = sequencesOf(launch, 2 * own, gpu.workgroupBytes);
  return {
    variant: `enter ${[width, xParts, channels, taps, sequences].join(' ')}`,
    buffers: enterBuffers(launch),
    numbers: { selected: rank + 2 * stateSize, padded: paddedBatch(batch) },
    workgroups: [channels / own, Math.ceil(batch / sequences)],
    code: () => enterCode(launch, own, sequences),
  };
}

function enterCode(launch: BlockLaunch, own: number, sequences: number): string {
  const { gpu, parameters, dtype } = launch;
  const { width } = parameters;
  const type = typeOf(sequences);
  const shares = threads / (2 * own);
  const { lanes } = wide(dtype('inProj'));
  const project = projection(launch, shares, sequences);
  const select = selection(launch, own, sequences);
  return `
      ${wgslMath}
      ${teamSum(gpu, 'total', threads, threads, type)}
      ${teamSum(gpu, 'shared_total', shares, threads, type)}
      // Of each sequence the vectors that go with the first four of eight weights, then those that go with the others: no banks are shared.
      var<workgroup> normed: array<vec4<f32>, ${(sequences * width) / 4}>;
      // Of the channels, for each sequence.
      var<workgroup> xz: array<${type}, ${2 * own}>;
      var<workgroup> u_of: array<f32, ${sequences * own}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let first = id.y * ${sequences}u;
        let last_sequence = p.batch - 1u;
        let channel = id.x * ${own}u;
        let output = thread / ${shares}u;
        let share = thread % ${shares}u;
        let row = channel + output + select(0u, p.channels - ${own}u, output >= ${own}u);
        let at = p.inProj_at + row * ${width / lanes}u;
        ${project.ahead}
        ${select.ahead}

        // The norm.
        ${normCode(launch, sequences, lanes)}
        workgroupBarrier();

        // x and z.
        ${project.product}
        let projected = shared_total(thread, product);
        if (share == 0u) { xz[output] = projected; }
        workgroupBarrier();

        // u, and the state moved on.
        ${convolve(launch, own, sequences)}
        workgroupBarrier();
        ${select.product}
      }`;
}

/** Makes u of a channel of each sequence, and stores it with z. */
function convolve(launch: BlockLaunch, own: number, sequences: number): string {
  const conv = convolution(launch);
  return repeat(
    sequences,
    (s) => `
        if (thread < ${own}u && first + ${s}u <= last_sequence) {
          let b = first + ${s}u;
          let e = channel + thread;
          let newest = ${laneOf(sequences, 'xz[thread]', s)};
          ${conv.value}
          ${conv.move}
          inner[p.inner_at + b * 2u * p.channels + e] = value;
          inner[p.inner_at + (b * 2u + 1u) * p.channels + e] = ${laneOf(sequences, `xz[${own}u + thread]`, s)};
          u_of[${s * own}u + thread] = value;
        }`,
  );
}

/** The part of x_proj of the workgroup's channels, a row a thread, and the weights for it, which are asked for first. */
function selection({ dtype }: BlockLaunch, own: number, sequences: number): { ahead: string; product: string } {
  const weight = dtype('xProj');
  const { lanes } = wide(weight);
  const loads = own / lanes;
  return {
    ahead: `let selects = min(thread, p.selected - 1u);
        let xProj_row = p.xProj_at + (selects * p.channels + channel) / ${lanes}u;
        ${repeat(loads, (i) => `let v${i} = xProj[xProj_row + ${i}u];`)}`,
    product: `if (thread < p.selected) {
          ${repeat(sequences, (s) => {
            const values = (i: number) => (j: number) => gather(4, (lane) => `u_of[${s * own + i * lanes + 4 * j + lane}u]`);
            return `
          if (first + ${s}u <= last_sequence) {
            let place = 2u * p.channels * p.batch + (id.x * p.padded + first + ${s}u) * p.selected + thread;
            inner[p.inner_at + place] = ${Array.from({ length: loads }, (_, i) => wideDot(weight, `v${i}`, values(i))).join(' + ')};
          }`;
          })}
        }`,
  };
}
