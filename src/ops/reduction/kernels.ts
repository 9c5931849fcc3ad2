import { defineKernel, input, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { broadcastGpu, reduceMaxGpu, reduceSumGpu, scatterToMaxGpu } from './webgpu.js';

/** y[o, i] = scale·Σₗ x[o, l, i], dense x [outer, length, inner]. */
export const reduceSum = defineKernel('reduce_sum', {
  buffers: { x: input.float, y: output.float },
  parameters: { outer: 'int', length: 'int', inner: 'int', scale: 'float' },
  operations: (p) => p.outer * p.length * p.inner,
  divisions: ({ outer, length, inner }) => [
    { along: 'outer', strides: { x: length * inner, y: inner } },
    ...(outer === 1 ? [{ along: 'length', strides: { x: inner }, ...added('y') } as const] : []),
  ],
  webgpu: reduceSumGpu,
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
  buffers: { x: input.float, y: output.float },
  parameters: { outer: 'int', length: 'int', inner: 'int', scale: 'float' },
  operations: (p) => p.outer * p.length * p.inner,
  divisions: ({ outer, length, inner }) => [
    { along: 'outer', strides: { x: inner, y: length * inner } },
    ...(outer === 1 ? [{ along: 'length', strides: { y: inner } } as const] : []),
  ],
  webgpu: broadcastGpu,
  reference({ x, y }, { outer, length, inner, scale }) {
    for (let o = 0; o < outer; o++) {
      for (let l = 0; l < length; l++) {
        for (let i = 0; i < inner; i++) y[(o * length + l) * inner + i] = scale * (x[o * inner + i] ?? NaN);
      }
    }
  },
});

/**
 * y[o, i] = maxₗ x[o, l, i], dense x [outer, length, inner], and the first l where it stands. A NaN is larger than any
 * number, so that it is not lost.
 */
export const reduceMax = defineKernel('reduce_max', {
  buffers: { x: input.float, y: output.float, positions: optionalOutput.i32 },
  parameters: { outer: 'int', length: 'int', inner: 'int' },
  operations: (p) => p.outer * p.length * p.inner,
  divisions: ({ length, inner }) => [{ along: 'outer', strides: { x: length * inner, y: inner, positions: inner } }],
  webgpu: reduceMaxGpu,
  reference({ x, y, positions }, { outer, length, inner }) {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const at = (l: number) => x[(o * length + l) * inner + i] ?? NaN;
        let position = 0;
        for (let l = 1; l < length; l++) {
          if (at(l) > at(position) || (Number.isNaN(at(l)) && !Number.isNaN(at(position)))) position = l;
        }
        y[o * inner + i] = at(position);
        if (positions) positions[o * inner + i] = position;
      }
    }
  },
});

/** dx[o, l, i] = dy[o, i] where l = positions[o, i], else 0; dense: the gradient of `reduceMax`. */
export const scatterToMax = defineKernel('scatter_to_max', {
  buffers: { dy: input.float, positions: input.i32, dx: output.float },
  parameters: { outer: 'int', length: 'int', inner: 'int' },
  divisions: ({ length, inner }) => [{ along: 'outer', strides: { dy: inner, positions: inner, dx: length * inner } }],
  webgpu: scatterToMaxGpu,
  reference({ dy, positions, dx }, { outer, length, inner }) {
    for (let o = 0; o < outer; o++) {
      for (let l = 0; l < length; l++) {
        for (let i = 0; i < inner; i++) {
          const from = o * inner + i;
          dx[(o * length + l) * inner + i] = positions[from] === l ? (dy[from] ?? NaN) : 0;
        }
      }
    }
  },
});
