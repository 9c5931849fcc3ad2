import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { sigmoid, softplus } from '../elementwise/functions.js';
import { channelsOut } from './webgpu/extents.js';
import { ssdBlockEnterGpu } from './webgpu/ssd-enter.js';
import { behindRow } from './webgpu/ssd-extents.js';
import { ssdBlockLeaveGpu } from './webgpu/ssd-leave.js';

const at = (values: Float64Array, i: number): number => values[i] ?? NaN;

/**
 * One position of a residual block of Mamba-2 up to its convolution. x is [xParts, batch, width] and counts by the sum over its parts;
 * if scaled, rows of x have 4 numbers behind them, and the sum is divided by the root of the sum of the first of these. sum = x + residual,
 * normed = sum·normWeight / √(mean(sum²) + ε), projected = inProj·normed, whose columns [gates, gates + channels) are convolved:
 * silu(conv(convState, ·)). convState [batch, taps − 1, channels] moves on. inProj is [outputs, width]; all is dense.
 */
export const ssdBlockEnter = defineKernel('ssd_block_enter', {
  buffers: {
    x: input.float,
    residual: optionalInput.float,
    normWeight: input.f32,
    inProj: input.float,
    convState: inout.f32,
    convWeight: input.f32,
    convBias: optionalInput.f32,
    projected: output.f32,
    sum: optionalOutput.f32,
  },
  parameters: {
    ...{ batch: 'int', width: 'int', xParts: 'int', scaled: 'flag', gates: 'int', channels: 'int', outputs: 'int', taps: 'int' },
    epsilon: 'float',
  },
  operations: ({ batch, width, xParts, channels, outputs, taps }) => batch * (width * (xParts + 4 + 2 * outputs) + channels * (2 * taps + 4)),
  optional: true,
  webgpu: ssdBlockEnterGpu,
  reference(buffers, { batch, width, xParts, scaled, gates, channels, outputs, taps, epsilon }) {
    const { x, residual, normWeight, inProj, convState, convWeight, convBias, projected, sum } = buffers;
    const pitch = width + (scaled ? behindRow : 0);
    for (let b = 0; b < batch; b++) {
      const total = (column: number) =>
        Array.from({ length: xParts }, (_, part) => at(x, (part * batch + b) * pitch + column)).reduce((all, value) => all + value, 0);
      const factor = scaled ? 1 / Math.sqrt(total(width)) : 1;
      const added = Float64Array.from({ length: width }, (_, c) => total(c) * factor + (residual ? at(residual, b * width + c) : 0));
      sum?.set(added, b * width);
      const scale = 1 / Math.sqrt(added.reduce((all, value) => all + value * value, 0) / width + epsilon);
      const normed = added.map((value, c) => value * scale * at(normWeight, c));
      for (let row = 0; row < outputs; row++) {
        const newest = normed.reduce((all, value, i) => all + value * at(inProj, row * width + i), 0);
        const e = row - gates;
        let result = newest;
        if (e >= 0 && e < channels) {
          const place = (tap: number) => (b * (taps - 1) + tap) * channels + e;
          const inputs = Array.from({ length: taps - 1 }, (_, tap) => at(convState, place(tap))).concat(newest);
          const pre = inputs.reduce((all, value, tap) => all + value * at(convWeight, e * taps + tap), convBias?.[e] ?? 0);
          result = pre * sigmoid(pre);
          inputs.slice(1).forEach((value, tap) => (convState[place(tap)] = value));
        }
        projected[b * outputs + row] = result;
      }
    }
  },
});

/**
 * One position of a residual block of Mamba-2 after its convolution. projected [batch, ·] has z, x, B and C convolved, and Δ side by side;
 * Δ = softplus(Δ + dtBias) within its limits, S ← exp(Δ·A)·S + Δ·x·Bᵀ, v = (S·C + D·x)·silu(z). y is outProj·(v·normWeight) in parts, each of
 * 64 channels, [heads·headSize / 64, batch, width + 4]: behind a row are a share of mean(v²) + ε, or of 1 without a norm, and zeros.
 */
export const ssdBlockLeave = defineKernel('ssd_block_leave', {
  buffers: {
    ...{ projected: input.f32, dtBias: input.f32, A: input.f32, D: input.f32, ssmState: inout.f32, normWeight: optionalInput.f32 },
    ...{ outProj: input.float, y: output.f32 },
  },
  parameters: {
    ...{ batch: 'int', width: 'int', heads: 'int', headSize: 'int', groups: 'int', stateSize: 'int' },
    ...{ epsilon: 'float', deltaLeast: 'float', deltaLargest: 'float' },
  },
  operations: ({ batch, width, heads, headSize, stateSize }) => batch * heads * headSize * (5 * stateSize + 10 + 2 * width),
  optional: true,
  webgpu: ssdBlockLeaveGpu,
  reference(buffers, { batch, width, heads, headSize, groups, stateSize, epsilon, deltaLeast, deltaLargest }) {
    const { projected, dtBias, A, D, ssmState, normWeight, outProj, y } = buffers;
    const channels = heads * headSize;
    const parts = channels / channelsOut;
    for (let b = 0; b < batch; b++) {
      const first = b * (2 * channels + 2 * groups * stateSize + heads);
      const v = Float64Array.from({ length: channels }, (_, e) => {
        const h = Math.floor(e / headSize);
        const weight = first + 2 * channels + Math.floor((h * groups) / heads) * stateSize;
        const raw = softplus(at(projected, first + 2 * channels + 2 * groups * stateSize + h) + at(dtBias, h));
        const delta = Math.min(Math.max(raw, deltaLeast), deltaLargest);
        const [z, x] = [at(projected, first + e), at(projected, first + channels + e)];
        let total = at(D, h) * x;
        for (let n = 0; n < stateSize; n++) {
          const i = (b * channels + e) * stateSize + n;
          const next = Math.exp(delta * at(A, h)) * at(ssmState, i) + delta * x * at(projected, weight + n);
          ssmState[i] = next;
          total += next * at(projected, weight + groups * stateSize + n);
        }
        return total * z * sigmoid(z);
      });
      for (let part = 0; part < parts; part++) {
        const own = v.subarray(part * channelsOut, (part + 1) * channelsOut);
        const row = (part * batch + b) * (width + behindRow);
        for (let c = 0; c < width; c++) {
          const weightOf = (i: number) => at(outProj, c * channels + part * channelsOut + i) * (normWeight?.[part * channelsOut + i] ?? 1);
          y[row + c] = own.reduce((all, value, i) => all + value * weightOf(i), 0);
        }
        const share = normWeight ? own.reduce((all, value) => all + value * value, 0) / channels + epsilon / parts : 1 / parts;
        y.set([share, 0, 0, 0], row + width);
      }
    }
  },
});
