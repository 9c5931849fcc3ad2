import { defineKernel, input, optionalInput, optionalOutput, output, type GpuFeatures } from '../../tensor/index.js';
import { hasNormMatrices } from '../../wgsl/norm-matrices.js';
import { rmsNormLinearGpu, rmsNormLinearMatricesGpu } from './webgpu.js';

/**
 * sum = x + residual (or x itself), normed = sum·normWeight / √(mean(sum²) + ε), y = normed·weightᵀ, row by row. weight is
 * [outputs, columns], dense.
 */
const normLinear = (name: string, own: { webgpu: typeof rmsNormLinearGpu; needs?: (gpu: GpuFeatures) => boolean }) =>
  defineKernel(name, {
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
    ...own,
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

/** For few rows: each reads the weight by itself. */
export const rmsNormLinear = normLinear('rms_norm_linear', { webgpu: rmsNormLinearGpu });

/** For weights in f16, 16 rows at a time. */
export const rmsNormLinearMatrices = normLinear('rms_norm_linear_matrices', { webgpu: rmsNormLinearMatricesGpu, needs: hasNormMatrices });
