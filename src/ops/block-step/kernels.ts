import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { sigmoid, softplus } from '../elementwise/functions.js';
import { channelsOut } from './webgpu/extents.js';
import { blockStepGpu } from './webgpu/index.js';

/**
 * One position of a residual block up to its last projection. x is [xParts, batch, width] and counts by the sum over its parts;
 * sum = x + residual, normed = sum·normWeight / √(mean(sum²) + ε), (x, z) = inProj·normed, u = silu(conv(convState, x)),
 * (dt, B, C) = xProj·u, Δ = softplus(dtProj·dt + dtBias), h ← exp(Δ·A)·h + Δ·B·u, y = (Σₙ C·h + D·u)·silu(z).
 *
 * convState [batch, taps − 1, channels] moves on by x, ssmState [batch, channels, stateSize] is h. inProj is [2·channels, width], xProj
 * [rank + 2·stateSize, channels], dtProj [channels, rank]; all is dense. y is [batch, channels]; with outProj [width, channels] it is
 * outProj·y in parts, each of 64 channels, [channels / 64, batch, width].
 */
export const blockStep = defineKernel('block_step', {
  buffers: {
    x: input.float,
    residual: optionalInput.float,
    normWeight: input.f32,
    inProj: input.float,
    convState: inout.f32,
    convWeight: input.f32,
    convBias: optionalInput.f32,
    xProj: input.float,
    dtProj: input.float,
    dtBias: input.f32,
    A: input.f32,
    D: input.f32,
    ssmState: inout.f32,
    outProj: optionalInput.float,
    y: output.float,
    sum: optionalOutput.f32,
  },
  parameters: {
    ...{ batch: 'int', width: 'int', xParts: 'int', channels: 'int', taps: 'int', rank: 'int', stateSize: 'int' },
    epsilon: 'float',
  },
  // Without out_proj, which may be a launch of its own.
  operations: ({ batch, width, xParts, channels, taps, rank, stateSize }) =>
    batch * (width * (xParts + 4) + channels * (4 * width + 2 * taps + 4 * rank + 11 * stateSize + 12)),
  optional: true,
  webgpu: blockStepGpu,
  reference(buffers, { batch, width, xParts, channels, taps, rank, stateSize, epsilon }) {
    const { x, residual, normWeight, inProj, convState, convWeight, convBias, xProj, dtProj, dtBias, A, D, ssmState, outProj, y, sum } = buffers;
    const at = (values: Float64Array, i: number) => values[i] ?? NaN;
    const dot = (weight: Float64Array, row: number, values: Float64Array) =>
      values.reduce((total, value, i) => total + value * at(weight, row * values.length + i), 0);
    for (let b = 0; b < batch; b++) {
      const added = Float64Array.from({ length: width }, (_, c) => {
        const parts = Array.from({ length: xParts }, (_, part) => at(x, (part * batch + b) * width + c));
        return parts.reduce((total, value) => total + value, residual ? at(residual, b * width + c) : 0);
      });
      sum?.set(added, b * width);
      const scale = 1 / Math.sqrt(added.reduce((total, value) => total + value * value, 0) / width + epsilon);
      const normed = added.map((value, c) => value * scale * at(normWeight, c));
      const place = (tap: number, e: number) => (b * (taps - 1) + tap) * channels + e;
      const u = new Float64Array(channels);
      for (let e = 0; e < channels; e++) {
        const inputs = Array.from({ length: taps - 1 }, (_, tap) => at(convState, place(tap, e))).concat(dot(inProj, e, normed));
        const pre = inputs.reduce((total, value, tap) => total + value * at(convWeight, e * taps + tap), convBias?.[e] ?? 0);
        u[e] = pre * sigmoid(pre);
        inputs.slice(1).forEach((value, tap) => (convState[place(tap, e)] = value));
      }
      const selected = Float64Array.from({ length: rank + 2 * stateSize }, (_, row) => dot(xProj, row, u));
      const [dt, B, C] = [selected.subarray(0, rank), selected.subarray(rank, rank + stateSize), selected.subarray(rank + stateSize)];
      const gated = new Float64Array(channels);
      for (let e = 0; e < channels; e++) {
        const delta = softplus(dot(dtProj, e, dt) + at(dtBias, e));
        let total = at(D, e) * at(u, e);
        for (let n = 0; n < stateSize; n++) {
          const i = (b * channels + e) * stateSize + n;
          const h = Math.exp(delta * at(A, e * stateSize + n)) * at(ssmState, i) + delta * at(B, n) * at(u, e);
          ssmState[i] = h;
          total += at(C, n) * h;
        }
        const z = dot(inProj, channels + e, normed);
        gated[e] = total * z * sigmoid(z);
      }
      if (outProj === null) {
        y.set(gated, b * channels);
        continue;
      }
      for (let part = 0; part < channels / channelsOut; part++) {
        const own = gated.map((value, e) => (Math.floor(e / channelsOut) === part ? value : 0));
        for (let c = 0; c < width; c++) y[(part * batch + b) * width + c] = dot(outProj, c, own);
      }
    }
  },
});
