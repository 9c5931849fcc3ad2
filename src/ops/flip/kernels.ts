import { defineKernel, input, output } from '../../tensor/index.js';
import { flipGpu } from './webgpu.js';

/** y[b, L−1−t, c] = x[b, t, c]; rows of x are `xPitch` apart, y is dense. */
export const flip = defineKernel('flip', {
  buffers: { x: input.float, y: output.float },
  parameters: { batch: 'int', length: 'int', columns: 'int', xPitch: 'int' },
  operations: () => 0,
  divisions: ({ length, columns, xPitch }) => [{ along: 'batch', strides: { x: length * xPitch, y: length * columns } }],
  webgpu: flipGpu,
  reference({ x, y }, { batch, length, columns, xPitch }) {
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < length; t++) {
        const [from, to] = [(b * length + t) * xPitch, ((b + 1) * length - 1 - t) * columns];
        for (let c = 0; c < columns; c++) y[to + c] = x[from + c] ?? NaN;
      }
    }
  },
});
