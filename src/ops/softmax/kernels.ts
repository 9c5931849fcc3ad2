import { defineKernel, input, output } from '../../tensor/index.js';
import { logSoftmaxBackwardGpu, logSoftmaxGpu, softmaxBackwardGpu, softmaxGpu } from './webgpu.js';

const rowsOf = { rows: 'int', columns: 'int', xPitch: 'int' } as const;

const forwardDivisions = ({ columns, xPitch }: { columns: number; xPitch: number }) =>
  [{ along: 'rows', strides: { x: xPitch, y: columns } }] as const;
const backwardDivisions = ({ columns, dyPitch }: { columns: number; dyPitch: number }) =>
  [{ along: 'rows', strides: { y: columns, dy: dyPitch, dx: columns } }] as const;

/** max and ln Σ e^(x − max) of a row. */
function normaliser(x: Float64Array): { largest: number; logSum: number } {
  const largest = x.reduce((a, b) => Math.max(a, b), -Infinity);
  return { largest, logSum: Math.log(x.reduce((sum, value) => sum + Math.exp(value - largest), 0)) };
}

/** y[r, c] = e^x[r, c] / Σⱼ e^x[r, j] */
export const softmax = defineKernel('softmax', {
  buffers: { x: input.float, y: output.float },
  parameters: rowsOf,
  operations: (p) => 4 * p.rows * p.columns,
  divisions: forwardDivisions,
  webgpu: softmaxGpu,
  reference({ x, y }, { rows, columns, xPitch }) {
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * xPitch, r * xPitch + columns);
      const { largest, logSum } = normaliser(row);
      row.forEach((value, c) => (y[r * columns + c] = Math.exp(value - largest - logSum)));
    }
  },
});

/** dx[r, c] = y[r, c]·(dy[r, c] − Σⱼ y[r, j]·dy[r, j]) */
export const softmaxBackward = defineKernel('softmax_backward', {
  buffers: { y: input.float, dy: input.float, dx: output.float },
  parameters: { rows: 'int', columns: 'int', dyPitch: 'int' },
  operations: (p) => 4 * p.rows * p.columns,
  divisions: backwardDivisions,
  webgpu: softmaxBackwardGpu,
  reference({ y, dy, dx }, { rows, columns, dyPitch }) {
    for (let r = 0; r < rows; r++) {
      const p = y.subarray(r * columns, (r + 1) * columns);
      const dp = dy.subarray(r * dyPitch, r * dyPitch + columns);
      const mean = p.reduce((sum, value, c) => sum + value * (dp[c] ?? NaN), 0);
      p.forEach((value, c) => (dx[r * columns + c] = value * ((dp[c] ?? NaN) - mean)));
    }
  },
});

/** y[r, c] = x[r, c] − ln Σⱼ e^x[r, j] */
export const logSoftmax = defineKernel('log_softmax', {
  buffers: { x: input.float, y: output.float },
  parameters: rowsOf,
  operations: (p) => 4 * p.rows * p.columns,
  divisions: forwardDivisions,
  webgpu: logSoftmaxGpu,
  reference({ x, y }, { rows, columns, xPitch }) {
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * xPitch, r * xPitch + columns);
      const { largest, logSum } = normaliser(row);
      row.forEach((value, c) => (y[r * columns + c] = value - largest - logSum));
    }
  },
});

/** dx[r, c] = dy[r, c] − e^y[r, c]·Σⱼ dy[r, j] */
export const logSoftmaxBackward = defineKernel('log_softmax_backward', {
  buffers: { y: input.float, dy: input.float, dx: output.float },
  parameters: { rows: 'int', columns: 'int', dyPitch: 'int' },
  operations: (p) => 4 * p.rows * p.columns,
  divisions: backwardDivisions,
  webgpu: logSoftmaxBackwardGpu,
  reference({ y, dy, dx }, { rows, columns, dyPitch }) {
    for (let r = 0; r < rows; r++) {
      const dRow = dy.subarray(r * dyPitch, r * dyPitch + columns);
      const sum = dRow.reduce((a, b) => a + b, 0);
      dRow.forEach((value, c) => (dx[r * columns + c] = value - Math.exp(y[r * columns + c] ?? NaN) * sum));
    }
  },
});
