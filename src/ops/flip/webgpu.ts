import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

export const flipGpu: GpuKernel<'x' | 'y', 'batch' | 'length' | 'columns' | 'xPitch'> = (launch) => {
  const { batch, length, columns, xPitch } = launch.parameters;
  const lanes = lanesOf(launch, [columns, xPitch], ['x', 'y']);
  return {
    dispatches: [
      perElement({
        variant: String(lanes),
        count: (batch * length * columns) / lanes,
        buffers: (['x', 'y'] as const).map((name) => ({ name, as: vectorOf(lanes, launch.dtype(name) ?? 'f32') })),
        body: `
          let columns = p.columns / ${lanes}u;
          let row = i / columns;
          let from_row = row + p.length - 1u - 2u * (row % p.length);
          y[p.y_at + i] = x[p.x_at + from_row * (p.xPitch / ${lanes}u) + i % columns];`,
      }),
    ],
  };
};
