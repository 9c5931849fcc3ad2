import { defineKernel, input, output } from '../../tensor/index.js';

/** y[o, i] = scale·Σₗ x[o, l, i], dense x [outer, length, inner]. */
export const reduceSum = defineKernel('reduce_sum', {
  buffers: { x: input.f32, y: output.f32 },
  parameters: { outer: 'int', length: 'int', inner: 'int', scale: 'float' },
  operations: (p) => p.outer * p.length * p.inner,
  reference({ x, y }, { outer, length, inner, scale }) {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        for (let l = 0; l < length; l++) sum += x[(o * length + l) * inner + i] ?? NaN;
        y[o * inner + i] = scale * sum;
      }
    }
  },
});

/** y[o, l, i] = scale·x[o, i], dense y [outer, length, inner]: the gradient of `reduceSum`. */
export const broadcast = defineKernel('broadcast', {
  buffers: { x: input.f32, y: output.f32 },
  parameters: { outer: 'int', length: 'int', inner: 'int', scale: 'float' },
  operations: (p) => p.outer * p.length * p.inner,
  reference({ x, y }, { outer, length, inner, scale }) {
    for (let o = 0; o < outer; o++) {
      for (let l = 0; l < length; l++) {
        for (let i = 0; i < inner; i++) y[(o * length + l) * inner + i] = scale * (x[o * inner + i] ?? NaN);
      }
    }
  },
});
