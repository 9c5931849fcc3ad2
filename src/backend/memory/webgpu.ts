import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { vectorOf } from '../../wgsl/vectors.js';

export const fillGpu: GpuKernel<'values', 'value' | 'count'> = ({ parameters, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'fill',
      count: parameters.count,
      buffers: ['values'],
      body: `values[p.values_at + i] = ${dtype('values') ?? 'f32'}(p.value);`,
    }),
  ],
});

/** Converts where the dtypes differ. */
export const copyRowsGpu: GpuKernel<'source' | 'destination', 'rows' | 'columns' | 'sourcePitch' | 'destinationPitch'> = ({
  parameters: { rows, columns, sourcePitch, destinationPitch },
  dtype,
  aligned,
}) => {
  const divisible = (by: number) => [columns, sourcePitch, destinationPitch].every((extent) => extent % by === 0) && aligned(by, 'source', 'destination');
  // Halves that stay halves go in vectors of 16 bytes.
  const lanes = dtype('source') === 'f16' && dtype('destination') === 'f16' && divisible(8) ? 8 : divisible(4) ? 4 : 1;
  const element = (name: 'source' | 'destination', of: number) => (of === 8 ? 'vec4<u32>' : vectorOf(of, dtype(name) ?? 'f32'));
  return {
    dispatches: [
      perElement({
        variant: `copy${lanes}`,
        count: (rows * columns) / lanes,
        buffers: [
          { name: 'source', as: element('source', lanes) },
          { name: 'destination', as: element('destination', lanes) },
        ],
        body: `
          let row = i / (p.columns / ${lanes});
          let column = i % (p.columns / ${lanes});
          destination[p.destination_at + row * (p.destinationPitch / ${lanes}) + column] =
            ${element('destination', lanes)}(source[p.source_at + row * (p.sourcePitch / ${lanes}) + column]);`,
      }),
    ],
  };
};
