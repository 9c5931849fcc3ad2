import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { gridOf } from './grid.js';

type Parameters = 'batch' | 'channels' | 'height' | 'width' | 'side' | 'stride' | 'xPitch' | 'yPitch';

export const unfoldGpu: GpuKernel<'x' | 'y', Parameters> = ({ parameters, dtype }) => {
  const { batch, channels, side } = parameters;
  const [rows, columns] = gridOf(parameters);
  return {
    dispatches: [
      perElement({
        variant: 'patches',
        count: batch * rows * columns * channels * side * side,
        numbers: { patches: rows * columns, across: columns, items: channels * side * side },
        buffers: ['x', 'y'],
        body: `
          let item = i % p.items;
          let m = i / p.items % p.patches;
          let b = i / p.items / p.patches;
          let c = item / (p.side * p.side);
          let row = m / p.across * p.stride + item / p.side % p.side;
          let column = m % p.across * p.stride + item % p.side;
          y[p.y_at + i] = ${dtype('y') ?? 'f32'}(x[p.x_at + ((b * p.channels + c) * p.height + row) * p.xPitch + column]);`,
      }),
    ],
  };
};

export const unfoldBackwardGpu: GpuKernel<'dy' | 'dx', Parameters> = ({ parameters, dtype }) => {
  const { batch, channels, height, width } = parameters;
  const [rows, columns] = gridOf(parameters);
  return {
    dispatches: [
      perElement({
        variant: 'pixels',
        count: batch * channels * height * width,
        numbers: { down: rows, across: columns },
        buffers: ['dy', 'dx'],
        // Patches from the first that reaches the pixel, down and to the right.
        functions: 'fn first(at: u32) -> u32 { if (at < p.side) { return 0u; } return (at - p.side) / p.stride + 1u; }',
        body: `
          let column = i % p.width;
          let row = i / p.width % p.height;
          let c = i / p.width / p.height % p.channels;
          let b = i / p.width / p.height / p.channels;
          var total = 0.0;
          for (var r = first(row); r < p.down && r * p.stride <= row; r++) {
            for (var q = first(column); q < p.across && q * p.stride <= column; q++) {
              let item = (c * p.side + row - r * p.stride) * p.side + column - q * p.stride;
              total += f32(dy[p.dy_at + ((b * p.down + r) * p.across + q) * p.yPitch + item]);
            }
          }
          dx[p.dx_at + i] = ${dtype('dx') ?? 'f32'}(total);`,
      }),
    ],
  };
};
