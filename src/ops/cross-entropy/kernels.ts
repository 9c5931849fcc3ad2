import { defineKernel, inout, input, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import {
  columnSumsGpu,
  countedScaleGpu,
  multiplyInPlaceGpu,
  scaledSumGpu,
  scaleIntoGpu,
  tokenLossesBackwardGpu,
  tokenLossesGpu,
  tokenLossesInPlaceGpu,
} from './webgpu.js';

/** scale = 1 / number of targets other than −1, or 0 when there are none. */
export const countedScale = defineKernel('counted_scale', {
  buffers: { targets: input.i32, scale: output.f32 },
  parameters: { count: 'int' },
  webgpu: countedScaleGpu,
  reference({ targets, scale }, { count }) {
    const counted = targets.subarray(0, count).filter((target) => target !== -1).length;
    scale[0] = counted === 0 ? 0 : 1 / counted;
  },
});

/**
 * losses[r] = −ln softmax(logits[r])[targets[r]]; 0 for target −1, NaN for any other outside [0, columns). normalisers[r] are
 * the largest logit m and Σ e^(logit − m).
 */
export const tokenLosses = defineKernel('token_losses', {
  buffers: { logits: input.float, targets: input.i32, losses: output.f32, normalisers: optionalOutput.f32 },
  parameters: { rows: 'int', columns: 'int', logitsPitch: 'int' },
  operations: (p) => 3 * p.rows * p.columns,
  divisions: ({ logitsPitch }) => [{ along: 'rows', strides: { logits: logitsPitch, targets: 1, losses: 1, normalisers: 2 } }],
  webgpu: tokenLossesGpu,
  reference({ logits, targets, losses, normalisers }, { rows, columns, logitsPitch }) {
    for (let r = 0; r < rows; r++) {
      const row = logits.subarray(r * logitsPitch, r * logitsPitch + columns);
      const { largest, total } = normaliser(row);
      losses[r] = loss(row, targets[r] ?? -1, largest, total);
      normalisers?.set([largest, total], 2 * r);
    }
  },
});

/** dlogits[r] = scale·upstream·(softmax(logits[r]) − onehot(targets[r])), dense; 0 for target −1, NaN for other unknown ones. */
export const tokenLossesBackward = defineKernel('token_losses_backward', {
  buffers: {
    logits: input.float,
    targets: input.i32,
    normalisers: input.f32,
    scale: input.f32,
    upstream: input.f32,
    dlogits: output.float,
  },
  parameters: { rows: 'int', columns: 'int', logitsPitch: 'int' },
  operations: (p) => 3 * p.rows * p.columns,
  divisions: ({ columns, logitsPitch }) => [
    { along: 'rows', strides: { logits: logitsPitch, targets: 1, normalisers: 2, dlogits: columns } },
  ],
  webgpu: tokenLossesBackwardGpu,
  reference({ logits, targets, normalisers, scale, upstream, dlogits }, { rows, columns, logitsPitch }) {
    const factor = (scale[0] ?? NaN) * (upstream[0] ?? NaN);
    for (let r = 0; r < rows; r++) {
      const row = logits.subarray(r * logitsPitch, r * logitsPitch + columns);
      const [largest = NaN, total = NaN] = normalisers.subarray(2 * r, 2 * r + 2);
      dlogits.set(gradient(row, targets[r] ?? -1, largest, total, factor), r * columns);
    }
  },
});

/**
 * `tokenLosses`, and the logits (dense) are replaced by softmax − onehot, the gradients of their own losses: numbers near 1,
 * which half precision can hold, as it could not hold their shares of a mean over many tokens.
 */
export const tokenLossesInPlace = defineKernel('token_losses_in_place', {
  buffers: { logits: inout.float, targets: input.i32, losses: output.f32 },
  parameters: { rows: 'int', columns: 'int' },
  operations: (p) => 5 * p.rows * p.columns,
  divisions: ({ columns }) => [{ along: 'rows', strides: { logits: columns, targets: 1, losses: 1 } }],
  webgpu: tokenLossesInPlaceGpu,
  reference({ logits, targets, losses }, { rows, columns }) {
    for (let r = 0; r < rows; r++) {
      const row = logits.subarray(r * columns, (r + 1) * columns);
      const target = targets[r] ?? -1;
      const { largest, total } = normaliser(row);
      losses[r] = loss(row, target, largest, total);
      row.set(gradient(row, target, largest, total, 1));
    }
  },
});

/** total = scale·Σ values */
export const scaledSum = defineKernel('scaled_sum', {
  buffers: { values: input.f32, scale: input.f32, total: output.f32 },
  parameters: { count: 'int' },
  operations: (p) => p.count,
  divisions: () => [{ along: 'count', strides: { values: 1 }, ...added('total') }],
  webgpu: scaledSumGpu,
  reference({ values, scale, total }, { count }) {
    total[0] = (scale[0] ?? NaN) * values.subarray(0, count).reduce((a, b) => a + b, 0);
  },
});

/** y[c] = Σᵣ x[r, c], dense x, or y[c] += … when `accumulate` is set (y is then read as well). */
export const columnSums = defineKernel('column_sums', {
  buffers: { x: input.float, y: output.f32 },
  parameters: { rows: 'int', columns: 'int', accumulate: 'flag' },
  operations: (p) => p.rows * p.columns,
  divisions: ({ columns }) => [{ along: 'rows', strides: { x: columns }, second: () => ({ accumulate: 1 }) }],
  webgpu: columnSumsGpu,
  reference({ x, y }, { rows, columns, accumulate }) {
    for (let c = 0; c < columns; c++) {
      let sum = accumulate ? (y[c] ?? NaN) : 0;
      for (let r = 0; r < rows; r++) sum += x[r * columns + c] ?? NaN;
      y[c] = sum;
    }
  },
});

/** values[i] ·= factor·scale */
export const multiplyInPlace = defineKernel('multiply_in_place', {
  buffers: { factor: input.f32, scale: input.f32, values: inout.float },
  parameters: { count: 'int' },
  operations: (p) => p.count,
  divisions: () => [{ along: 'count', strides: { values: 1 } }],
  webgpu: multiplyInPlaceGpu,
  reference({ factor, scale, values }, { count }) {
    const both = (factor[0] ?? NaN) * (scale[0] ?? NaN);
    for (let i = 0; i < count; i++) values[i] = (values[i] ?? NaN) * both;
  },
});

/** sums[i] = factor·scale·values[i], or += with `accumulate` (sums is then read as well) */
export const scaleInto = defineKernel('scale_into', {
  buffers: { factor: input.f32, scale: input.f32, values: input.float, sums: output.float },
  parameters: { count: 'int', accumulate: 'flag' },
  operations: (p) => 2 * p.count,
  divisions: () => [{ along: 'count', strides: { values: 1, sums: 1 } }],
  webgpu: scaleIntoGpu,
  reference({ factor, scale, values, sums }, { count, accumulate }) {
    const both = (factor[0] ?? NaN) * (scale[0] ?? NaN);
    for (let i = 0; i < count; i++) {
      sums[i] = (accumulate ? (sums[i] ?? NaN) : 0) + both * (values[i] ?? NaN);
    }
  },
});

function normaliser(row: Float64Array): { largest: number; total: number } {
  const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return { largest, total: row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0) };
}

function loss(row: Float64Array, target: number, largest: number, total: number): number {
  return target === -1 ? 0 : Math.log(total) - ((row[target] ?? NaN) - largest);
}

function gradient(row: Float64Array, target: number, largest: number, total: number, factor: number): Float64Array {
  if (target === -1) return new Float64Array(row.length);
  if (target < 0 || target >= row.length) return new Float64Array(row.length).fill(NaN);
  return row.map((logit, c) => factor * (Math.exp(logit - largest) / total - (c === target ? 1 : 0)));
}
