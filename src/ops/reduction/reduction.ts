import { ArgumentError } from '../../util/errors.js';
import { empty, formatShape, launch, operation, record, sizeOf, type FloatDType, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import { broadcast, reduceSum } from './kernels.js';

/**
 * Sum over one axis, or over everything.
 * @param x any shape, f32 or f16
 * @param axis counted from the end when negative; left out: all axes
 * @returns x's dtype and its shape without `axis`; `[]` for all axes
 * @throws ArgumentError when x has no such axis
 */
export function sum(x: Tensor, axis?: number): Tensor<FloatDType> {
  return axis === undefined ? sumAll('sum', x) : sumAxis('sum', x, axis);
}

/** Mean over one axis, or over everything; see `sum`. */
export function mean(x: Tensor, axis?: number): Tensor<FloatDType> {
  return axis === undefined ? sumAll('mean', x) : sumAxis('mean', x, axis);
}

function sumAll(name: 'sum' | 'mean', x: Tensor): Tensor<FloatDType> {
  return operation(name, { x: [x, 'float'] }, () => {
    const flat = contiguous(x);
    const scale = name === 'mean' ? 1 / x.size : 1;
    // Row sums first: they are threaded, and pairwise sums lose less.
    const partial = empty(x.backend, [flat.rows]);
    launch(reduceSum, { x: flat, y: partial }, { outer: flat.rows, length: flat.columns, inner: 1, scale: 1 });
    const y = empty(x.backend, [], x.dtype as FloatDType);
    launch(reduceSum, { x: partial, y }, { outer: 1, length: partial.size, inner: 1, scale });
    recordSum(name, x, y, { outer: 1, length: x.size, inner: 1, scale });
    return y;
  });
}

function sumAxis(name: 'sum' | 'mean', x: Tensor, axis: number): Tensor<FloatDType> {
  return operation(name, { x: [x, 'float'] }, () => {
    const at = axis < 0 ? axis + x.rank : axis;
    if (!Number.isInteger(at) || at < 0 || at >= x.rank) {
      throw new ArgumentError({ operation: name, argument: 'axis', expected: `an axis of ${formatShape(x.shape)}`, got: String(axis) });
    }
    const outer = sizeOf(x.shape.slice(0, at));
    const inner = sizeOf(x.shape.slice(at + 1));
    const length = x.shape[at] ?? 1;
    const scale = name === 'mean' ? 1 / length : 1;
    const dense = contiguous(x);
    const y = empty(x.backend, [...x.shape.slice(0, at), ...x.shape.slice(at + 1)], x.dtype as FloatDType);
    launch(reduceSum, { x: dense, y }, { outer, length, inner, scale });
    recordSum(name, x, y, { outer, length, inner, scale });
    return y;
  });
}

function recordSum(
  operation: string,
  x: Tensor,
  y: Tensor,
  extents: { outer: number; length: number; inner: number; scale: number },
): void {
  const { shape, dtype } = x;
  record({
    operation,
    inputs: [x],
    outputs: [y],
    saved: {},
    backward({ cotangents: [dy] }) {
      if (!dy) return [null];
      const dense = contiguous(dy);
      const dx = empty(dy.backend, shape, dtype);
      launch(broadcast, { x: dense, y: dx }, extents);
      return [dx];
    },
  });
}
