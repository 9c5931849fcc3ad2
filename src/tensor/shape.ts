import { describeValue, ShapeError } from '../util/errors.js';

/** Extents of a tensor, outermost first. `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Whether two shapes have the same extents. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis]);
}

/** `[2,64,128]` */
export function formatShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(',')}]`;
}

/** Elements that a tensor may have: their places are counted in float64, in bytes of as many as eight. */
const mostElements = 2 ** 50;

/**
 * A copy of the extents that a caller asks for.
 * @param options.argument what they are called, default 'shape'
 * @param options.open whether one of them may be −1, to be worked out
 * @throws ShapeError unless it is an array of integers ≥ 0, and their product at most 2⁵⁰
 */
export function checkedShape(operation: string, shape: Shape, options: { argument?: string; open?: boolean } = {}): Shape {
  const { argument = 'shape', open = false } = options;
  const given: unknown = shape;
  if (!Array.isArray(given)) {
    throw new ShapeError({ operation, argument, expected: 'an array of extents', got: describeValue(given) });
  }
  const own: number[] = [];
  let [size, unknown, whole] = [1, 0, true];
  // No method: those of a sparse array pass over its holes.
  for (const extent of given as number[]) {
    own.push(extent);
    if (open && extent === -1) unknown++;
    else if (Number.isSafeInteger(extent) && extent >= 0) size *= extent;
    else whole = false;
  }
  if (whole && unknown <= 1 && size <= mostElements) return own;
  throw new ShapeError({
    operation,
    argument,
    expected: `extents that are integers ≥ 0${open ? ', or one −1' : ''}, at most 2⁵⁰ elements in all`,
    got: `[${own.map(describeValue).join(',')}]`,
  });
}

/**
 * Throws unless `shape` is `expected`.
 * @param symbols the letters of the expected shape, as in `[B,L,E]`
 * @throws ShapeError naming the operation, the argument, the expected shape in symbols and numbers, and the actual one
 */
export function expectShape(
  operation: string,
  argument: string,
  shape: Shape,
  expected: Shape,
  symbols: string,
  hint?: string,
): void {
  if (sameShape(shape, expected)) return;
  throw new ShapeError({
    operation,
    argument,
    expected: `${symbols} = ${formatShape(expected)}`,
    got: formatShape(shape),
    hint,
  });
}

/**
 * Throws unless `shape` has `rank` axes.
 * @throws ShapeError
 */
export function expectRank(operation: string, argument: string, shape: Shape, rank: number, symbols: string): void {
  if (shape.length === rank) return;
  throw new ShapeError({ operation, argument, expected: `${symbols} (${rank} axes)`, got: formatShape(shape) });
}
