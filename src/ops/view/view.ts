import { copyRows, copyRowsI32, fill } from '../../backend/memory/kernels.js';
import { ArgumentError, describeValue, DTypeError, ShapeError } from '../../util/errors.js';
import { checkedShape, empty, expectTensorList, expectTensors, formatShape, launch, operation, record, sameShape, scope, sizeOf, type DType, type FloatDType, type Shape, type Tensor } from '../../tensor/index.js';

/**
 * Copies `source` over `destination`, both [rows, columns] of any pitch. Not recorded.
 * @throws ShapeError unless they have as many rows and columns; DTypeError unless both hold floats, or both i32
 */
export function copyInto(source: Tensor, destination: Tensor): void {
  const kind = (source as Tensor | null | undefined)?.dtype === 'i32' ? 'i32' : 'float';
  expectTensors('copyInto', { source: [source, kind], destination: [destination, kind] });
  if (source.rows !== destination.rows || source.columns !== destination.columns) {
    const [expected, got] = [`the shape of source, ${formatShape(source.shape)}`, formatShape(destination.shape)];
    throw new ShapeError({ operation: 'copyInto', argument: 'destination', expected, got });
  }
  const extents = { rows: source.rows, columns: source.columns, sourcePitch: source.pitch, destinationPitch: destination.pitch };
  if (kind === 'i32') launch(copyRowsI32, { source, destination }, extents);
  else launch(copyRows, { source, destination }, { ...extents, sourceHalf: source.dtype === 'f16', destinationHalf: destination.dtype === 'f16' });
}

/** The tensor itself (a new handle) when its rows follow one another, else a dense copy. */
export function contiguous<D extends DType>(x: Tensor<D>): Tensor<D> {
  return operation('contiguous', { x: [x, 'any'] }, () => {
    if (x.dense) return x.retain();
    const y = empty(x.backend, x.shape, x.dtype);
    copyInto(x, y);
    record({ operation: 'contiguous', inputs: [x], outputs: [y], saved: {}, backward: ({ cotangents: [dy] }) => [dy ?? null] });
    return y;
  });
}

/**
 * The same values stored in another float dtype; rounds to nearest from f32 to f16. The tensor itself (a new handle) where it
 * is of that dtype already. The gradient is stored as x is.
 * @param x f32 or f16
 * @throws DTypeError when x holds no floats
 */
export function cast<D extends FloatDType>(x: Tensor, dtype: D): Tensor<D> {
  if (!(['f32', 'f16'] as readonly unknown[]).includes(dtype)) {
    const [expected, got] = ["'f32' or 'f16'", describeValue(dtype)];
    throw new DTypeError({ operation: 'cast', argument: 'dtype', expected, got });
  }
  return operation('cast', { x: [x, 'float'] }, () => {
    if (x.dtype === dtype) return x.retain() as Tensor<D>;
    const y = empty(x.backend, x.shape, dtype);
    const from = x.dtype as FloatDType;
    copyInto(x, y);
    record({ operation: 'cast', inputs: [x], outputs: [y], saved: {}, backward: ({ cotangents: [dy] }) => [dy ? cast(dy, from) : null] });
    return y;
  });
}

/**
 * The same values in another shape, without a copy where the rows follow one another.
 * @param shape extents with the same product; one may be −1 and is worked out
 * @throws ShapeError when the numbers of elements differ
 */
export function reshape<D extends DType>(x: Tensor<D>, shape: Shape): Tensor<D> {
  return operation('reshape', { x: [x, 'any'] }, () => {
    const asked = checkedShape('reshape', shape, { open: true });
    const known = sizeOf(asked.filter((extent) => extent !== -1));
    const to = asked.map((extent) => (extent === -1 ? x.size / known : extent));
    if (sizeOf(to) !== x.size || !to.every(Number.isInteger)) {
      throw new ShapeError({
        operation: 'reshape',
        argument: 'shape',
        expected: `${x.size} elements, as in ${formatShape(x.shape)}`,
        got: formatShape(shape),
      });
    }
    // Rows with gaps can only be regrouped: the last extent must stay.
    const source = x.dense || to.at(-1) === x.columns ? x.retain() : contiguous(x);
    const y = source.aliased(to, 0, source.dense ? (to.at(-1) ?? 1) : source.pitch);
    const from = x.shape;
    record({
      operation: 'reshape',
      inputs: [x],
      outputs: [y],
      saved: {},
      backward: ({ cotangents: [dy] }) => [dy ? reshape(dy, from) : null],
    });
    return y;
  });
}

/**
 * Cuts the last axis into consecutive parts, without copies.
 * @param x [..., Σ sizes]
 * @returns tensors [..., sizes[i]]
 * @throws ShapeError when the sizes do not add up to the last extent
 */
export function split<D extends DType>(x: Tensor<D>, sizes: readonly number[]): Tensor<D>[] {
  return operation('split', { x: [x, 'any'] }, () => {
    // A shape has a largest product; sizes are added up.
    const given: readonly number[] = Array.isArray(sizes) ? Array.from<number>(sizes) : [NaN];
    const widths = given.every((size) => Number.isSafeInteger(size) && size >= 0) ? given : checkedShape('split', sizes, { argument: 'sizes' });
    if (widths.reduce((sum, size) => sum + size, 0) !== x.columns || x.rank === 0) {
      throw new ShapeError({
        operation: 'split',
        argument: 'sizes',
        expected: `parts of the last extent of ${formatShape(x.shape)}`,
        got: formatShape(widths),
      });
    }
    const outer = x.shape.slice(0, -1);
    let end = 0;
    const starts = widths.map((size) => (end += size) - size);
    const parts = widths.map((size, i) => x.aliased([...outer, size], starts[i] ?? 0, x.pitch));
    const { shape, backend, dtype } = x;
    record({
      operation: 'split',
      inputs: [x],
      outputs: parts,
      saved: {},
      backward({ cotangents }) {
        const dx = empty(backend, shape, dtype);
        if (cotangents.includes(null)) launch(fill, { values: dx }, { value: 0, count: dx.size });
        cotangents.forEach((dy, i) => {
          if (!dy) return;
          const part = dx.aliased(dy.shape, starts[i] ?? 0, dx.pitch);
          copyInto(dy, part);
          part.dispose();
        });
        return [dx];
      },
    });
    return parts;
  });
}

/**
 * Parts side by side on the last axis, what `split` cuts; copies each.
 * @param parts at least one, [..., sizes[i]], of one dtype
 * @returns [..., Σ sizes]
 * @throws ShapeError when other extents than the last differ; DTypeError when the dtypes do; ArgumentError when there is no part
 */
export function concatenate(parts: readonly Tensor[]): Tensor<FloatDType> {
  const operation = 'concatenate';
  expectTensorList(operation, 'parts', parts, 'float');
  const [first] = parts;
  if (first === undefined) throw new ArgumentError({ operation, argument: 'parts', expected: 'at least one', got: 'none' });
  return scope(() => {
    const outer = first.shape.slice(0, -1);
    const dtype = first.dtype as FloatDType;
    for (const [i, part] of parts.entries()) {
      const argument = `parts[${i}]`;
      if (part.rank === 0 || !sameShape(part.shape.slice(0, -1), outer)) {
        throw new ShapeError({ operation, argument, expected: `[${[...outer, 'C'].join(',')}]`, got: formatShape(part.shape) });
      }
      if (part.dtype !== dtype) throw new DTypeError({ operation, argument, expected: `${dtype}, as parts[0] is`, got: part.dtype });
    }
    const y = empty(first.backend, [...outer, parts.reduce((sum, { columns }) => sum + columns, 0)], dtype);
    const of = (whole: Tensor): Tensor<FloatDType>[] => {
      let start = 0;
      return parts.map(({ shape, columns }) => whole.aliased(shape, (start += columns) - columns, whole.pitch) as Tensor<FloatDType>);
    };
    for (const [i, place] of of(y).entries()) copyInto(parts[i] as Tensor, place);
    record({ operation, inputs: parts, outputs: [y], saved: {}, backward: ({ cotangents: [dy] }) => (dy ? of(dy) : parts.map(() => null)) });
    return y;
  });
}
