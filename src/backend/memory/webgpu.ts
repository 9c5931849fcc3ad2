import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';

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
  const element = (name: 'source' | 'destination', lanes: number) => {
    const scalar = dtype(name) ?? 'f32';
    return lanes === 1 ? scalar : `vec${lanes}<${scalar}>`;
  };
  const lanes = [columns, sourcePitch, destinationPitch].every((extent) => extent % 4 === 0) && aligned(4, 'source', 'destination') ? 4 : 1;
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
