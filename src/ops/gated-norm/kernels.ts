import { defineKernel, input, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { sigmoid } from '../elementwise/functions.js';
import { gatedRmsNormBackwardGpu, gatedRmsNormGpu } from './webgpu.js';

const sizes = { rows: 'int', columns: 'int', groups: 'int', xPitch: 'int', zPitch: 'int' } as const;

/**
 * RMS norm of each of `groups` equal parts of a row, and a gate. With s = silu(z):
 *
 *     y = v·scale·weight, v = x·s      or, with `normFirst`,      y = v·scale·weight·s, v = x
 *
 * and scale = 1/√(mean(v²) + ε) over a part. `statistics` [rows, groups] is the scales, for the backward pass.
 */
export const gatedRmsNorm = defineKernel('gated_rms_norm', {
  buffers: { x: input.float, z: input.float, weight: input.f32, y: output.float, statistics: optionalOutput.f32 },
  parameters: { ...sizes, epsilon: 'float', normFirst: 'flag' },
  operations: (p) => 10 * p.rows * p.columns,
  divisions: ({ columns, groups, xPitch, zPitch }) => [
    { along: 'rows', strides: { x: xPitch, z: zPitch, y: columns, statistics: groups } },
  ],
  reference({ x, z, weight, y, statistics }, { rows, columns, groups, xPitch, zPitch, epsilon, normFirst }) {
    const size = columns / groups;
    for (let part = 0; part < rows * groups; part++) {
      const [r, first] = [Math.floor(part / groups), (part % groups) * size];
      const gates = Array.from({ length: size }, (_, i) => silu(at(z, r * zPitch + first + i)));
      const values = gates.map((gate, i) => at(x, r * xPitch + first + i) * (normFirst ? 1 : gate));
      const scale = 1 / Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / size + epsilon);
      values.forEach((v, i) => (y[r * columns + first + i] = v * scale * at(weight, first + i) * (normFirst ? at(gates, i) : 1)));
      if (statistics) statistics[part] = scale;
    }
  },
  webgpu: gatedRmsNormGpu,
});

/**
 * With n = v·scale, and g = dy·weight (with `normFirst`: times s): dv = scale·(g − n·mean(g·n)), of which dx = dv·s and
 * dz = dv·x·silu′(z) (with `normFirst`: dx = dv, dz = dy·weight·n·silu′(z)); dweight = Σ_rows dy·n (times s). `partials` [blocks, columns] is
 * working space, needed for dweight; its extent fixes the order of that sum.
 */
export const gatedRmsNormBackward = defineKernel('gated_rms_norm_backward', {
  buffers: {
    x: input.float,
    z: input.float,
    weight: input.f32,
    statistics: input.f32,
    dy: input.float,
    dx: optionalOutput.float,
    dz: optionalOutput.float,
    dweight: optionalOutput.f32,
    partials: optionalOutput.f32,
  },
  parameters: { ...sizes, dyPitch: 'int', normFirst: 'flag', blocks: 'int' },
  operations: (p) => 20 * p.rows * p.columns,
  divisions: ({ columns, groups, xPitch, zPitch, dyPitch }) => [
    { along: 'rows', strides: { x: xPitch, z: zPitch, statistics: groups, dy: dyPitch, dx: columns, dz: columns }, ...added('dweight') },
  ],
  reference({ x, z, weight, statistics, dy, dx, dz, dweight }, { rows, columns, groups, xPitch, zPitch, dyPitch, normFirst }) {
    const size = columns / groups;
    dweight?.fill(0);
    for (let part = 0; part < rows * groups; part++) {
      const [r, first, scale] = [Math.floor(part / groups), (part % groups) * size, at(statistics, part)];
      const all = Array.from({ length: size }, (_, i) => {
        const [value, gate, d, w] = [at(x, r * xPitch + first + i), at(z, r * zPitch + first + i), at(dy, r * dyPitch + first + i), at(weight, first + i)];
        const s = silu(gate);
        const n = value * scale * (normFirst ? 1 : s);
        const through = d * (normFirst ? s : 1);
        if (dweight) dweight[first + i] = at(dweight, first + i) + through * n;
        return { value, s, slope: siluSlope(gate), d, w, n, g: through * w };
      });
      const mean = all.reduce((sum, { g, n }) => sum + g * n, 0) / size;
      all.forEach(({ value, s, slope, d, w, n, g }, i) => {
        const dv = scale * (g - n * mean);
        const to = r * columns + first + i;
        if (dx) dx[to] = normFirst ? dv : dv * s;
        if (dz) dz[to] = (normFirst ? d * w * n : dv * value) * slope;
      });
    }
  },
  webgpu: gatedRmsNormBackwardGpu,
});

const silu = (z: number): number => z * sigmoid(z);
const siluSlope = (z: number): number => sigmoid(z) * (1 + z * (1 - sigmoid(z)));

function at(array: ArrayLike<number>, index: number): number {
  return array[index] ?? NaN;
}
