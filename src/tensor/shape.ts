import { describeProblem, ShapeError } from '../util/errors.js';

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
export function formatShape(shape: Shape): string {
  return `[${shape.join(',')}]`;
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
  throw new ShapeError(
    describeProblem({
      operation,
      argument,
      expected: `${symbols} = ${formatShape(expected)}`,
      got: formatShape(shape),
      ...(hint === undefined ? {} : { hint }),
    }),
  );
}

/**
 * Throws unless `shape` has `rank` axes.
 * @throws ShapeError
 */
export function expectRank(operation: string, argument: string, shape: Shape, rank: number, symbols: string): void {
  if (shape.length === rank) return;
  throw new ShapeError(
    describeProblem({ operation, argument, expected: `${symbols} (${String(rank)} axes)`, got: formatShape(shape) }),
  );
}
