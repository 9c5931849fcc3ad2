import { defineKernel, inout, input, optionalInput, output } from '../../tensor/index.js';
import { sigmoid, softplus } from '../elementwise/functions.js';
import { mixerStepGpu } from './webgpu.js';

/**
 * One position of all that lies between a Mamba mixer's projections in and out: with (x, z) the halves of a row of xz,
 * u = silu(conv(convState, x)), (dt, B, C) = xProj·u, Δ = softplus(dtProj·dt + dtBias), h ← exp(Δ·A)·h + Δ·B·u,
 * y = (Σₙ C·h + D·u)·silu(z). convState [batch, taps − 1, channels] moves on by x, ssmState [batch, channels, stateSize] is h.
 * xProj is [rank + 2·stateSize, channels], dtProj [channels, rank]; all but xz are dense.
 */
export const mixerStep = defineKernel('mixer_step', {
  buffers: {
    convState: inout.f32,
    ssmState: inout.f32,
    xz: input.float,
    convWeight: input.f32,
    convBias: optionalInput.f32,
    xProj: input.float,
    dtProj: input.float,
    dtBias: input.f32,
    A: input.f32,
    D: input.f32,
    y: output.float,
  },
  parameters: { batch: 'int', channels: 'int', taps: 'int', rank: 'int', stateSize: 'int', xzPitch: 'int' },
  operations: (p) =>
    p.batch * p.channels * (2 * p.taps + 4 + 2 * (p.rank + 2 * p.stateSize) + 2 * p.rank + 7 * p.stateSize + 8),
  optional: true,
  webgpu: mixerStepGpu,
  reference({ convState, ssmState, xz, convWeight, convBias, xProj, dtProj, dtBias, A, D, y }, p) {
    const { batch, channels, taps, rank, stateSize, xzPitch } = p;
    const at = (values: Float64Array, i: number) => values[i] ?? NaN;
    const dot = (weight: Float64Array, row: number, values: Float64Array) =>
      values.reduce((sum, value, i) => sum + value * at(weight, row * values.length + i), 0);
    for (let b = 0; b < batch; b++) {
      const place = (tap: number, e: number) => (b * (taps - 1) + tap) * channels + e;
      const u = new Float64Array(channels);
      for (let e = 0; e < channels; e++) {
        const inputs = Array.from({ length: taps - 1 }, (_, tap) => at(convState, place(tap, e))).concat(at(xz, b * xzPitch + e));
        const pre = inputs.reduce((sum, value, tap) => sum + value * at(convWeight, e * taps + tap), convBias?.[e] ?? 0);
        u[e] = pre * sigmoid(pre);
        inputs.slice(1).forEach((value, tap) => (convState[place(tap, e)] = value));
      }
      const projected = Float64Array.from({ length: rank + 2 * stateSize }, (_, row) => dot(xProj, row, u));
      const [dt, B, C] = [projected.subarray(0, rank), projected.subarray(rank, rank + stateSize), projected.subarray(rank + stateSize)];
      for (let e = 0; e < channels; e++) {
        const delta = softplus(dot(dtProj, e, dt) + at(dtBias, e));
        let sum = at(D, e) * at(u, e);
        for (let n = 0; n < stateSize; n++) {
          const i = (b * channels + e) * stateSize + n;
          const h = Math.exp(delta * at(A, e * stateSize + n)) * at(ssmState, i) + delta * at(B, n) * at(u, e);
          ssmState[i] = h;
          sum += at(C, n) * h;
        }
        const z = at(xz, b * xzPitch + channels + e);
        y[b * channels + e] = sum * z * sigmoid(z);
      }
    }
  },
});
