import { defineKernel, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { rmsNormBackwardGpu, rmsNormGpu } from './webgpu.js';

/**
 * sum = x + residual (given together, or neither: then the row is x itself), scale[r] = 1/√(mean(row²) + ε),
 * y = row·scale·weight; `statistics` [rows] is the scales, for the backward pass.
 */
export const rmsNorm = defineKernel('rms_norm', {
  buffers: {
    x: input.float,
    residual: optionalInput.float,
    weight: input.f32,
    y: output.float,
    sum: optionalOutput.float,
    statistics: optionalOutput.f32,
  },
  parameters: { rows: 'int', columns: 'int', xPitch: 'int', residualPitch: 'int', epsilon: 'float' },
  operations: (p) => 5 * p.rows * p.columns,
  divisions: ({ columns, xPitch, residualPitch }) => [
    { along: 'rows', strides: { x: xPitch, residual: residualPitch, y: columns, sum: columns, statistics: 1 } },
  ],
  webgpu: rmsNormGpu,
  reference({ x, residual, weight, y, sum, statistics }, { rows, columns, xPitch, residualPitch, epsilon }) {
    for (let r = 0; r < rows; r++) {
      const row = x.slice(r * xPitch, r * xPitch + columns);
      if (residual) row.forEach((value, c) => (row[c] = value + (residual[r * residualPitch + c] ?? NaN)));
      const scale = 1 / Math.sqrt(row.reduce((total, value) => total + value * value, 0) / columns + epsilon);
      row.forEach((value, c) => (y[r * columns + c] = value * scale * (weight[c] ?? NaN)));
      sum?.set(row, r * columns);
      if (statistics) statistics[r] = scale;
    }
  },
});

/**
 * With g = dy·weight and n = row·scale: dsum = scale·(g − n·mean(g·n)) + dresidual, dweight = Σ_rows dy·n. dx is dsum once more,
 * for an x whose dtype is not the residual's. `partials` [blocks, columns] is working space, needed for dweight; its extent
 * fixes the order of that sum.
 */
export const rmsNormBackward = defineKernel('rms_norm_backward', {
  buffers: {
    sum: input.float,
    weight: input.f32,
    statistics: input.f32,
    dy: input.float,
    dresidual: optionalInput.float,
    dsum: optionalOutput.float,
    dx: optionalOutput.float,
    dweight: optionalOutput.f32,
    partials: optionalOutput.f32,
  },
  parameters: { rows: 'int', columns: 'int', sumPitch: 'int', dyPitch: 'int', dresidualPitch: 'int', blocks: 'int' },
  operations: (p) => 11 * p.rows * p.columns,
  divisions: ({ columns, sumPitch, dyPitch, dresidualPitch }) => [
    {
      along: 'rows',
      strides: { sum: sumPitch, statistics: 1, dy: dyPitch, dresidual: dresidualPitch, dsum: columns, dx: columns },
      ...added('dweight'),
    },
  ],
  webgpu: rmsNormBackwardGpu,
  reference({ sum, weight, statistics, dy, dresidual, dsum, dx, dweight }, { rows, columns, sumPitch, dyPitch, dresidualPitch }) {
    dweight?.fill(0);
    for (let r = 0; r < rows; r++) {
      const scale = statistics[r] ?? NaN;
      const d = dy.slice(r * dyPitch, r * dyPitch + columns);
      const n = sum.slice(r * sumPitch, r * sumPitch + columns).map((value) => value * scale);
      const g = d.map((value, c) => value * (weight[c] ?? NaN));
      const mean = g.reduce((total, value, c) => total + value * (n[c] ?? NaN), 0) / columns;
      for (let c = 0; c < columns; c++) {
        const normalised = n[c] ?? NaN;
        const through = dresidual?.[r * dresidualPitch + c] ?? 0;
        const gradient = scale * ((g[c] ?? NaN) - normalised * mean) + through;
        if (dsum) dsum[r * columns + c] = gradient;
        if (dx) dx[r * columns + c] = gradient;
        if (dweight) dweight[c] = (dweight[c] ?? NaN) + (d[c] ?? NaN) * normalised;
      }
    }
  },
});
