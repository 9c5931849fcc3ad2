import { ArgumentError, describeProblem, ShapeError } from '../util/errors.js';
import type { Backend, DeviceBuffer } from './backend.js';
import { bufferSize, isPacked, type DType, type FloatDType } from './dtype.js';
import { expectShape, formatShape, type Shape } from './shape.js';
import { Tensor } from './tensor.js';

/** A tensor whose contents are undefined, to be written by a kernel. */
export function empty<D extends DType = FloatDType>(backend: Backend, shape: Shape, dtype: D = 'f32' as D): Tensor<D> {
  return Tensor.over(backend, backend.allocate(dtype, bufferSize(dtype, shape)) as DeviceBuffer & { dtype: D }, shape);
}

/**
 * Where an operation writes a result: a new handle on `given`, or an empty f32 tensor where nothing is given.
 * @throws ShapeError when `given` has another shape, or gaps between its rows
 */
export function destination(
  operation: string,
  argument: string,
  given: Tensor | undefined,
  { backend, shape, symbols }: { backend: Backend; shape: Shape; symbols: string },
): Tensor<'f32'> {
  if (given === undefined) return empty(backend, shape);
  expectShape(operation, argument, given.shape, shape, symbols);
  if (given.dense) return given.retain() as Tensor<'f32'>;
  throw new ShapeError(describeProblem({ operation, argument, expected: 'rows without gaps', got: `a pitch of ${String(given.pitch)}` }));
}

/**
 * A tensor with the given values.
 * @param values numbers in row-major order (of a packed dtype the bytes of its layout), or a function that makes them (not
 *   called by backends that hold no values)
 * @throws ArgumentError when there are more or fewer values than the shape has elements
 */
export function tensor<D extends DType = FloatDType>(
  backend: Backend,
  values: ArrayLike<number> | (() => ArrayLike<number>),
  shape: Shape,
  dtype: D = 'f32' as D,
): Tensor<D> {
  const size = bufferSize(dtype, shape);
  const check = (given: ArrayLike<number>): ArrayLike<number> => {
    if (given.length === size) return given;
    throw new ArgumentError(
      describeProblem({
        operation: 'tensor',
        argument: 'values',
        expected: `${String(size)} ${isPacked(dtype) ? `bytes of ${dtype}` : 'numbers'} for shape ${formatShape(shape)}`,
        got: `${String(given.length)} ${isPacked(dtype) ? 'bytes' : 'numbers'}`,
      }),
    );
  };
  const data = typeof values === 'function' ? () => check(values()) : check(values);
  const buffer = backend.upload(dtype, size, typeof data === 'function' ? data : () => data);
  return Tensor.over(backend, buffer as DeviceBuffer & { dtype: D }, shape);
}
