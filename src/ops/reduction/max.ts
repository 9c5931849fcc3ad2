import { ArgumentError } from '../../util/errors.js';
import { empty, formatShape, isRecording, launch, operation, record, sizeOf, type FloatDType, type Tensor } from '../../tensor/index.js';
import { contiguous, reshape } from '../view/view.js';
import { reduceMax, scatterToMax } from './kernels.js';

/**
 * Largest value over one axis, or of everything. NaN where there is a NaN. Of equal largest values the first has the
 * gradient.
 * @param x any shape, f32 or f16
 * @param axis counted from the end when negative; left out: all axes
 * @returns x's dtype and its shape without `axis`; `[]` for all axes
 * @throws ArgumentError when x has no such axis, or nothing along it
 */
export function max(x: Tensor, axis?: number): Tensor<FloatDType> {
  if (axis !== undefined) return maxAxis(x, axis);
  // Rows first: they are threaded.
  return operation('max', { x: [x, 'float'] }, () => maxAxis(maxAxis(reshape(x, [x.rows, x.columns]), 1), 0));
}

function maxAxis(x: Tensor, axis: number): Tensor<FloatDType> {
  return operation('max', { x: [x, 'float'] }, () => {
    const at = axis < 0 ? axis + x.rank : axis;
    const length = x.shape[at];
    if (!Number.isInteger(at) || length === undefined || length === 0) {
      const expected = `an axis of ${formatShape(x.shape)}${length === 0 ? ' with elements' : ''}`;
      throw new ArgumentError({ operation: 'max', argument: 'axis', expected, got: String(axis) });
    }
    const outer = sizeOf(x.shape.slice(0, at));
    const inner = sizeOf(x.shape.slice(at + 1));
    const { shape, dtype } = x;
    const extents = { outer, length, inner };
    const dense = contiguous(x);
    const y = empty(x.backend, [...shape.slice(0, at), ...shape.slice(at + 1)], dtype as FloatDType);
    const positions = isRecording() ? empty(x.backend, y.shape, 'i32') : null;
    launch(reduceMax, { x: dense, y, positions }, extents);
    if (positions === null) return y;
    record({
      operation: 'max',
      inputs: [x],
      outputs: [y],
      saved: { positions },
      backward({ cotangents: [dy], saved }) {
        if (!dy) return [null];
        const dx = empty(dy.backend, shape, dtype);
        launch(scatterToMax, { dy: contiguous(dy), positions: saved.positions, dx }, extents);
        return [dx];
      },
    });
    return y;
  });
}
