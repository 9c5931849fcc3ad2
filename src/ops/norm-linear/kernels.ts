import { defineKernel, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { rmsNormLinearGpu } from './webgpu.js';

/**
 * sum = x + residual (or x itself), normed = sum·normWeight / √(mean(sum²) + ε), y = normed·weightᵀ, row by row. weight is
 * [outputs, columns], dense.
 */
export const rmsNormLinear = defineKernel('rms_norm_linear', {
  buffers: {
    x: input.float,
    residual: optionalInput.float,
    normWeight: input.f32,
    weight: input.float,
    y: output.float,
    sum: optionalOutput.f32,
  },
  parameters: { rows: 'int', columns: 'int', outputs: 'int', xPitch: 'int', residualPitch: 'int', epsilon: 'float' },
  operations: (p) => p.rows * p.columns * (2 * p.outputs + 5),
  optional: true,
  divisions: ({ rows, columns, outputs, xPitch, residualPitch }) => [
    { along: 'rows', strides: { x: xPitch, residual: residualPitch, y: outputs, sum: columns } },
    ...(rows === 1 ? [{ along: 'outputs', strides: { weight: columns, y: 1 } } as const] : []),
  ],
  webgpu: rmsNormLinearGpu,
  reference({ x, residual, normWeight, weight, y, sum }, { rows, columns, outputs, xPitch, residualPitch, epsilon }) {
    for (let r = 0; r < rows; r++) {
      const row = x.slice(r * xPitch, r * xPitch + columns);
      if (residual) row.forEach((value, c) => (row[c] = value + (residual[r * residualPitch + c] ?? NaN)));
      sum?.set(row, r * columns);
      const scale = 1 / Math.sqrt(row.reduce((total, value) => total + value * value, 0) / columns + epsilon);
      const normed = row.map((value, c) => value * scale * (normWeight[c] ?? NaN));
      for (let o = 0; o < outputs; o++) {
        y[r * outputs + o] = normed.reduce((total, value, c) => total + value * (weight[o * columns + c] ?? NaN), 0);
      }
    }
  },
});
