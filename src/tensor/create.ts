import { ArgumentError, describeValue, DTypeError, ShapeError } from '../util/errors.js';
import type { Backend, DeviceBuffer } from './backend.js';
import { bufferSize, isPacked, itemSize, type DType, type FloatDType } from './dtype.js';
import { noteHostValues } from './known-range.js';
import { checkedShape, expectRank, expectShape, formatShape, type Shape } from './shape.js';
import { Tensor } from './tensor.js';
import { checkValues } from './values.js';

/**
 * A tensor whose contents are undefined, to be written by a kernel.
 * @throws ShapeError, DTypeError, ArgumentError
 */
export function empty<D extends DType = FloatDType>(backend: Backend, shape: Shape, dtype: D = 'f32' as D): Tensor<D> {
  const own = checkedRequest('empty', backend, shape, dtype);
  return Tensor.over(backend, backend.allocate(dtype, bufferSize(dtype, own)) as DeviceBuffer & { dtype: D }, own);
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
  throw new ShapeError({ operation, argument, expected: 'rows without gaps', got: `a pitch of ${given.pitch}` });
}

/**
 * A tensor with the given values.
 * @param values numbers in row-major order (of a packed dtype the bytes of its layout), or a function that makes them (not
 *   called by backends that hold no values)
 * @throws ArgumentError when there are more or fewer values than the shape has elements, or one that the dtype has not
 * @throws ShapeError, DTypeError
 */
export function tensor<D extends DType = FloatDType>(
  backend: Backend,
  values: ArrayLike<number> | (() => ArrayLike<number>),
  shape: Shape,
  dtype: D = 'f32' as D,
): Tensor<D> {
  const own = checkedRequest('tensor', backend, shape, dtype);
  const size = bufferSize(dtype, own);
  const expected = `${size} ${isPacked(dtype) ? `bytes of ${dtype}` : 'numbers'} for shape ${formatShape(own)}`;
  let written: ArrayLike<number> | undefined;
  const check = (given: ArrayLike<number>): ArrayLike<number> => {
    checkValues('tensor', given, { dtype, size, expected });
    written = given;
    return given;
  };
  const data = typeof values === 'function' ? () => check(values()) : check(values);
  const buffer = backend.upload(dtype, size, typeof data === 'function' ? data : () => data);
  if (dtype === 'i32') noteHostValues(buffer, written);
  return Tensor.over(backend, buffer as DeviceBuffer & { dtype: D }, own);
}

/** The shape to make a tensor of; throws unless backend, shape and dtype are what they should be. */
function checkedRequest(operation: string, backend: Backend, shape: Shape, dtype: DType): Shape {
  if (typeof (backend as Partial<Backend> | null | undefined)?.allocate !== 'function') {
    const [argument, expected, hint] = ['backend', 'a backend', 'await openBackend() opens one'];
    throw new ArgumentError({ operation, argument, expected, got: describeValue(backend), hint });
  }
  if (!Object.hasOwn(itemSize, dtype)) {
    const expected = Object.keys(itemSize).map(describeValue).join(', ');
    throw new DTypeError({ operation, argument: 'dtype', expected, got: describeValue(dtype) });
  }
  const own = checkedShape(operation, shape);
  if (isPacked(dtype)) expectRank(operation, 'shape', own, 2, '[N,K]');
  return own;
}
