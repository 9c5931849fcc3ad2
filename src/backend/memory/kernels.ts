import { defineKernel, dividedElements, input, output } from '../../tensor/index.js';
import { copyRowsGpu, fillGpu } from './webgpu.js';

/** values[i] = value */
export const fill = defineKernel('fill', {
  buffers: { values: output.float },
  parameters: { value: 'float', count: 'int' },
  divisions: () => [{ along: 'count', strides: { values: 1 } }],
  webgpu: fillGpu,
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

const copyDivisions = (p: { rows: number; sourcePitch: number; destinationPitch: number }) =>
  dividedElements(p, { source: p.sourcePitch, destination: p.destinationPitch });

/**
 * destination[r, c] = source[r, c], rows `pitch` elements apart; rounds or widens where one is f16. The flags say which is: compiled
 * kernels do not see dtypes.
 */
export const copyRows = defineKernel('copy_rows', {
  buffers: { source: input.stored, destination: output.stored },
  parameters: { ...copyParameters, sourceHalf: 'flag', destinationHalf: 'flag' },
  divisions: copyDivisions,
  webgpu: copyRowsGpu,
  reference: copyReference,
});

/** `copyRows` for integers. */
export const copyRowsI32 = defineKernel('copy_rows_i32', {
  buffers: { source: input.i32, destination: output.i32 },
  parameters: copyParameters,
  divisions: copyDivisions,
  webgpu: copyRowsGpu,
  reference: copyReference,
});
