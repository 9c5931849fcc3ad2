/** The gradient of how states decay, beside matrix units. */
import type { GpuDispatch, GpuKernel } from '../../../tensor/index.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { cutNumbers, factorAt, factorsBinding, halvesOf, pairsOf, reading, stepAt, stepsBinding } from './common-matrices.js';
import { crossingAt, sumAt } from './gradients-matrices.js';
import { scaledCode, type ChunkRound } from './matrices.js';
import { cutCode, tileLength, type Cut } from './tiles.js';

type Launch = Parameters<GpuKernel<BackwardBuffers, BackwardParameters>>[0];

const positions = 256;

/**
 * dDelta, and its sums over a chunk for dA and dDeltaBias. The gradient of Δ·A at a position is the sum of all that a decay over it carries: pairs of a position before it and
 * one from it on, as the difference of two sums over positions from it on, of the same numbers in float32; what enters the chunk and ends from it on, what begins before it and leaves,
 * and what passes through.
 */
export function rateGradients(launch: Launch, cut: Cut, round: ChunkRound): GpuDispatch {
  const { parameters, has, dtype } = launch;
  const { batch, heads } = parameters;
  const count = batch * round.roundChunks * heads;
  return {
    variant: 'matrices rates',
    buffers: [stepsBinding, factorsBinding, ...reading('sums', 'crossings'), halvesOf('after'), halvesOf('before'), 'A', ...(has('dDelta') ? ['dDelta'] : []), 'rateParts'],
    numbers: { ...cutNumbers(cut), ...round, pairs: pairsOf(cut), workgroups: count },
    workgroups: [Math.min(count, 65535), Math.ceil(count / 65535)],
    code: () => `
  ${cutCode}
  ${scaledCode}
  var<workgroup> parts: array<vec2<f32>, ${positions}>;
  @compute @workgroup_size(${positions})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.workgroups) { return; }
    let h = flat % p.heads;
    let place = flat / p.heads;
    let b = place / p.roundChunks;
    let chunk = p.firstChunk + place % p.roundChunks;
    let first = chunk * p.chunk;
    let rows = min(p.chunk, p.length - first);
    let live = thread < rows;
    let through = ${factorAt('first + rows - 1u')}.x;
    var share = 0.0;
    if (through != 0.0) {
      for (var n = thread; n < p.stateSize * p.headSize / 8u; n += ${positions}u) {
        let eight = after[p.after_at + (place * p.heads + h) * (p.stateSize * p.headSize / 8u) + n];
        let state = before[p.before_at + (place * p.heads + h) * (p.stateSize * p.headSize / 8u) + n];
        let all = first_four(state) * first_four(eight) + second_four(state) * second_four(eight);
        share += (all.x + all.y) + (all.z + all.w);
      }
    }
    parts[thread].x = share;
    workgroupBarrier();
    for (var stride = ${positions / 2}u; stride > 0u; stride /= 2u) {
      if (thread < stride) { parts[thread].x += parts[thread + stride].x; }
      workgroupBarrier();
    }
    let passing = through * parts[0].x;
    workgroupBarrier();
    // x: what begins before a position and leaves, summed from the first on; y: of pairs and of what entered, summed from the last back.
    var own = vec2<f32>();
    if (live) {
      let tile = thread / ${tileLength}u;
      let n = thread % ${tileLength}u;
      own = vec2<f32>(${sumAt('first + thread', 1)}, ${sumAt('first + thread', 2)});
      for (var k = 0u; k <= tile; k++) { own.y += ${crossingAt('chunk', '(tile * (tile + 1u) / 2u + k)', 0, 'n')}; }
      for (var k = tile; k < (rows + ${tileLength - 1}u) / ${tileLength}u; k++) { own.y -= ${crossingAt('chunk', '(k * (k + 1u) / 2u + tile)', 1, 'n')}; }
    }
    var sum = own;
    for (var distance = 1u; distance < ${positions}u; distance *= 2u) {
      parts[thread] = sum;
      workgroupBarrier();
      if (thread >= distance) { sum.x += parts[thread - distance].x; }
      if (thread + distance < ${positions}u) { sum.y += parts[thread + distance].y; }
      workgroupBarrier();
    }
    let gradient = passing + (sum.x - own.x) + sum.y;
    var slope = 0.0;
    var of_rate = 0.0;
    if (live) {
      let step = ${stepAt('first + thread')};
      slope = (gradient * A[p.A_at + h] + ${sumAt('first + thread', 0)}) * step.w;
      of_rate = gradient * step.z;
      ${has('dDelta') ? `dDelta[p.dDelta_at + (b * p.length + first + thread) * p.heads + h] = ${dtype('dDelta') ?? 'f32'}(slope);` : ''}
    }
    parts[thread] = vec2<f32>(of_rate, slope);
    workgroupBarrier();
    for (var stride = ${positions / 2}u; stride > 0u; stride /= 2u) {
      if (thread < stride) { parts[thread] += parts[thread + stride]; }
      workgroupBarrier();
    }
    if (thread < 2u) { rateParts[p.rateParts_at + ((b * p.chunks + chunk) * p.heads + h) * 2u + thread] = parts[0][thread]; }
  }`,
  };
}
