import { defineKernel, input, output } from '../../tensor/index.js';
import { gridOf, type Extents } from './grid.js';
import { unfoldBackwardGpu, unfoldGpu } from './webgpu.js';

const parameters = { batch: 'int', channels: 'int', height: 'int', width: 'int', side: 'int', stride: 'int', xPitch: 'int', yPitch: 'int' } as const;
type Parameters = Readonly<Record<keyof typeof parameters, number>>;

const sizeOf = ({ batch, channels, side, ...image }: Parameters): number => {
  const [rows, columns] = gridOf({ ...image, side });
  return batch * rows * columns * channels * side * side;
};

/**
 * y[b, m, (c·P + i)·P + j] = x[b, c, r·S + i, q·S + j] for patch m = r·columns + q of P × P pixels, S apart. Rows of pixels are `xPitch`
 * apart, patches `yPitch`.
 */
export const unfold = defineKernel('unfold', {
  buffers: { x: input.float, y: output.float },
  parameters,
  operations: () => 0,
  divisions: (p) => [{ along: 'batch', strides: { x: p.channels * p.height * p.xPitch, y: patchesOf(p) * p.yPitch } }],
  webgpu: unfoldGpu,
  reference({ x, y }, p) {
    forEachPixel(p, (pixel, place) => (y[place] = x[pixel] ?? NaN));
  },
});

/** dx[b, c, h, w] = Σ over the patches that have the pixel. `yPitch` is dy's, dx is dense: `xPitch` is its width. */
export const unfoldBackward = defineKernel('unfold_backward', {
  buffers: { dy: input.float, dx: output.float },
  parameters,
  operations: sizeOf,
  divisions: (p) => [{ along: 'batch', strides: { dy: patchesOf(p) * p.yPitch, dx: p.channels * p.height * p.xPitch } }],
  webgpu: unfoldBackwardGpu,
  reference({ dy, dx }, p) {
    dx.fill(0);
    forEachPixel(p, (pixel, place) => (dx[pixel] = (dx[pixel] ?? NaN) + (dy[place] ?? NaN)));
  },
});

const patchesOf = (p: Extents): number => {
  const [rows, columns] = gridOf(p);
  return rows * columns;
};

function forEachPixel(p: Parameters, body: (pixel: number, place: number) => void): void {
  const { batch, channels, height, side, stride, xPitch, yPitch } = p;
  const [rows, columns] = gridOf(p);
  for (let b = 0; b < batch; b++) {
    for (let m = 0; m < rows * columns; m++) {
      const [top, left] = [Math.floor(m / columns) * stride, (m % columns) * stride];
      for (let k = 0; k < channels * side * side; k++) {
        const [c, i, j] = [Math.floor(k / side / side), Math.floor(k / side) % side, k % side];
        body(((b * channels + c) * height + top + i) * xPitch + left + j, (b * rows * columns + m) * yPitch + k);
      }
    }
  }
}
