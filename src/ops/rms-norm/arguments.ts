import { ShapeError } from '../../util/errors.js';
import { empty, expectNumber, expectShape, formatShape, type DType, type Shape, type FloatDType, type Tensor } from '../../tensor/index.js';
import { copyInto } from '../view/view.js';

/** Options of `rmsNorm` and `layerNorm`. */
export interface NormOptions {
  /** ε, added to the mean square (or variance) under the root; default 1e-5. */
  readonly epsilon?: number | undefined;
  /** [..., D] f32 or f16, added to x before the norm: the residual stream of a pre-norm model. */
  readonly residual?: Tensor | null | undefined;
}

/** Result of `rmsNorm` and `layerNorm`. */
export interface NormResult {
  /** [..., D] of x's dtype, the normalised rows. */
  readonly y: Tensor<FloatDType>;
  /** [..., D], x + residual, f32 whatever x is; without a residual a second handle on x. */
  readonly residual: Tensor<FloatDType>;
}

/**
 * Throws unless x, the parameters of the norm and its options go together.
 * @param parameters weight and bias by name, each [D]
 * @throws ShapeError, ArgumentError
 */
export function checkNorm(
  operation: string,
  x: Pick<Tensor, 'rank' | 'shape' | 'columns'>,
  parameters: Readonly<Record<string, Tensor | null>>,
  epsilon: number,
  residual: Tensor | null,
): void {
  if (x.rank === 0) {
    const got = formatShape(x.shape);
    throw new ShapeError({ operation, argument: 'x', expected: '[…,D] (one axis or more)', got });
  }
  for (const [name, parameter] of Object.entries(parameters)) {
    if (parameter) expectShape(operation, name, parameter.shape, [x.columns], '[D]', 'D is the last extent of x');
  }
  if (residual) expectShape(operation, 'residual', residual.shape, x.shape, '[…,D]', 'the residual has the shape of x');
  expectNumber(operation, 'epsilon', epsilon, (value) => value >= 0 && value < Infinity, 'a number of 0 or more');
}

/**
 * The number of runs that the backward pass cuts the rows into, each with its own partial sums: enough for any number of
 * threads, none smaller than what is worth waking a thread for, and not dependent on how many threads there are.
 */
export function partialSums(shape: Shape): number {
  const size = shape.reduce((product, extent) => product * extent, 1);
  const rows = size / Math.max(1, shape.at(-1) ?? 1);
  return Math.max(1, Math.min(64, rows, Math.floor(size / 16384)));
}

/** A gradient in the dtype of what it is the gradient of. */
export function inDType(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  const y = empty(x.backend, x.shape, dtype);
  copyInto(x, y);
  return y;
}
