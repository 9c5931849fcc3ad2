import { ArgumentError, ShapeError } from '../../util/errors.js';
import { empty, expectShape, formatShape, launch, operation, record, sizeOf, type Tensor } from '../../tensor/index.js';
import { negate } from '../elementwise/elementwise.js';
import { gemmInto } from '../matmul/gemm.js';
import { contiguous } from '../view/view.js';
import { solve as kernel } from './kernels.js';

/** Rows that a matrix may have, at most: a thread keeps one in double precision. */
const largestSize = 512;

/**
 * Solves small dense linear systems: y = matrix⁻¹·right, by elimination with partial pivoting. On a CPU it computes in double precision.
 * Differentiable by both. A matrix without an inverse gives infinities or NaN.
 * @param matrix [..., N, N] f32, N at most 512
 * @param right [..., N, K] f32, with matrix's leading axes
 * @returns [..., N, K]
 * @throws ShapeError, DTypeError, ArgumentError
 */
export function solve(matrix: Tensor, right: Tensor): Tensor<'f32'> {
  const name = 'solve';
  return operation(name, { matrix: [matrix, 'f32'], right: [right, 'f32'] }, () => {
    const outer = matrix.shape.slice(0, -2);
    const size = matrix.columns;
    if (matrix.rank < 2 || matrix.shape.at(-2) !== size) {
      throw new ShapeError({ operation: name, argument: 'matrix', expected: '[…,N,N]', got: formatShape(matrix.shape) });
    }
    if (size < 1 || size > largestSize) {
      throw new ArgumentError({ operation: name, argument: 'matrix', expected: `from 1 to ${largestSize} rows (N)`, got: formatShape(matrix.shape) });
    }
    expectShape(name, 'right', right.shape, [...outer, size, right.columns], '[…,N,K]', 'as matrix, […,N,N]');
    const { backend } = matrix;
    const [own, values] = [contiguous(matrix), contiguous(right)];
    const y = empty(backend, right.shape, 'f32');
    const parameters = { count: sizeOf(outer), size, columns: right.columns };
    launch(kernel, { matrix: own, right: values, y }, { ...parameters, transposed: false });
    record({
      operation: name,
      inputs: [own, values],
      outputs: [y],
      saved: { matrix: own, y },
      backward({ cotangents: [dy], saved, needed }) {
        if (!dy) return [null, null];
        const dright = empty(backend, dy.shape, 'f32');
        launch(kernel, { matrix: saved.matrix, right: contiguous(dy), y: dright }, { ...parameters, transposed: true });
        if (!needed[0]) return [null, dright];
        const product = empty(backend, saved.matrix.shape, 'f32');
        gemmInto(dright, saved.y, product, { transposeB: true, batch: parameters.count, exact: true });
        return [negate(product), dright];
      },
    });
    return y;
  });
}
