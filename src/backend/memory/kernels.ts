import { defineKernel, input, output } from '../../tensor/index.js';

/** values[i] = value */
export const fill = defineKernel('fill', {
  buffers: { values: output.f32 },
  parameters: { value: 'float', count: 'int' },
  reference({ values }, { value, count }) {
    values.fill(value, 0, count);
  },
});

const copyReference = (
  { source, destination }: { source: Float64Array | Int32Array; destination: Float64Array | Int32Array },
  p: { rows: number; columns: number; sourcePitch: number; destinationPitch: number },
) => {
  for (let row = 0; row < p.rows; row++) {
    const from = row * p.sourcePitch;
    destination.set(source.subarray(from, from + p.columns), row * p.destinationPitch);
  }
};

const copyParameters = { rows: 'int', columns: 'int', sourcePitch: 'int', destinationPitch: 'int' } as const;

/** destination[r, c] = source[r, c], rows `pitch` elements apart */
export const copyRows = defineKernel('copy_rows', {
  buffers: { source: input.f32, destination: output.f32 },
  parameters: copyParameters,
  reference: copyReference,
});

/** `copyRows` for integers. */
export const copyRowsI32 = defineKernel('copy_rows_i32', {
  buffers: { source: input.i32, destination: output.i32 },
  parameters: copyParameters,
  reference: copyReference,
});
