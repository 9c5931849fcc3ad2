import { defineKernel, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { layerNormBackwardGpu, layerNormGpu } from './webgpu.js';

/**
 * sum = x + residual (given together, or neither: then the row is x itself), scale = 1/√(var(row) + ε),
 * y = (row − mean)·scale·weight + bias. `statistics` [rows, 3] is (scale, mean, correction) for the backward pass: the
 * float mean, and what its rounding left out.
 */
export const layerNorm = defineKernel('layer_norm', {
  buffers: {
    x: input.float,
    residual: optionalInput.float,
    weight: input.f32,
    bias: optionalInput.f32,
    y: output.float,
    sum: optionalOutput.float,
    statistics: optionalOutput.f32,
  },
  parameters: { rows: 'int', columns: 'int', xPitch: 'int', residualPitch: 'int', epsilon: 'float' },
  operations: (p) => 9 * p.rows * p.columns,
  divisions: ({ columns, xPitch, residualPitch }) => [
    { along: 'rows', strides: { x: xPitch, residual: residualPitch, y: columns, sum: columns, statistics: 3 } },
  ],
  webgpu: layerNormGpu,
  reference({ x, residual, weight, bias, y, sum, statistics }, { rows, columns, xPitch, residualPitch, epsilon }) {
    for (let r = 0; r < rows; r++) {
      const row = x.slice(r * xPitch, r * xPitch + columns);
      if (residual) row.forEach((value, c) => (row[c] = value + (residual[r * residualPitch + c] ?? NaN)));
      const mean = row.reduce((total, value) => total + value, 0) / columns;
      const variance = row.reduce((total, value) => total + (value - mean) ** 2, 0) / columns;
      const scale = 1 / Math.sqrt(variance + epsilon);
      row.forEach((value, c) => (y[r * columns + c] = (value - mean) * scale * (weight[c] ?? NaN) + (bias?.[c] ?? 0)));
      sum?.set(row, r * columns);
      statistics?.set([scale, mean, 0], 3 * r);
    }
  },
});

/**
 * With g = dy·weight and n = (row − mean)·scale: dsum = scale·(g − mean(g) − n·mean(g·n)) + dresidual,
 * dweight = Σ_rows dy·n, dbias = Σ_rows dy. dx is dsum once more, for an x whose dtype is not the residual's. `partials`
 * [blocks, 2, columns] is working space, needed for dweight and dbias; its extent fixes the order of the sums.
 */
export const layerNormBackward = defineKernel('layer_norm_backward', {
  buffers: {
    sum: input.float,
    weight: input.f32,
    statistics: input.f32,
    dy: input.float,
    dresidual: optionalInput.float,
    dsum: optionalOutput.float,
    dx: optionalOutput.float,
    dweight: optionalOutput.f32,
    dbias: optionalOutput.f32,
    partials: optionalOutput.f32,
  },
  parameters: { rows: 'int', columns: 'int', sumPitch: 'int', dyPitch: 'int', dresidualPitch: 'int', blocks: 'int' },
  operations: (p) => 15 * p.rows * p.columns,
  divisions: ({ columns, sumPitch, dyPitch, dresidualPitch }) => [
    {
      along: 'rows',
      strides: { sum: sumPitch, statistics: 3, dy: dyPitch, dresidual: dresidualPitch, dsum: columns, dx: columns },
      ...added('dweight', 'dbias'),
    },
  ],
  webgpu: layerNormBackwardGpu,
  reference({ sum, weight, statistics, dy, dresidual, dsum, dx, dweight, dbias }, p) {
    const { rows, columns, sumPitch, dyPitch, dresidualPitch } = p;
    dweight?.fill(0);
    dbias?.fill(0);
    for (let r = 0; r < rows; r++) {
      const [scale = NaN, mean = NaN] = statistics.subarray(3 * r, 3 * r + 2);
      const d = dy.slice(r * dyPitch, r * dyPitch + columns);
      const n = sum.slice(r * sumPitch, r * sumPitch + columns).map((value) => (value - mean) * scale);
      const g = d.map((value, c) => value * (weight[c] ?? NaN));
      const meanG = g.reduce((total, value) => total + value, 0) / columns;
      const meanGn = g.reduce((total, value, c) => total + value * (n[c] ?? NaN), 0) / columns;
      for (let c = 0; c < columns; c++) {
        const normalised = n[c] ?? NaN;
        const through = dresidual?.[r * dresidualPitch + c] ?? 0;
        const gradient = scale * ((g[c] ?? NaN) - meanG - normalised * meanGn) + through;
        if (dsum) dsum[r * columns + c] = gradient;
        if (dx) dx[r * columns + c] = gradient;
        if (dweight) dweight[c] = (dweight[c] ?? NaN) + (d[c] ?? NaN) * normalised;
        if (dbias) dbias[c] = (dbias[c] ?? NaN) + (d[c] ?? NaN);
      }
    }
  },
});
