import { ShapeError } from '../../util/errors.js';
import { empty, formatShape, operation, record, sameShape, sizeOf, type FloatDType, type Tensor } from '../../tensor/index.js';
import { gemmInto } from './gemm.js';

/**
 * Matrix product of the last two axes: c = a·b.
 *
 * @param a [..., M, K] f32 or f16, of any pitch
 * @param b [..., K, N] f32 or f16 with a's leading axes, or [K, N] for all of them
 * @returns [..., M, N] of a's dtype
 * @throws ShapeError when the shapes do not fit
 */
export const matmul = (a: Tensor, b: Tensor): Tensor<FloatDType> => product(a, b, false);

/** The same with factors that are not rounded, whatever precision the backend was opened with: for powers, whose errors grow. */
export const exactMatmul = (a: Tensor, b: Tensor): Tensor<FloatDType> => product(a, b, true);

function product(a: Tensor, b: Tensor, exact: boolean): Tensor<FloatDType> {
  return operation('matmul', { a: [a, 'float'], b: [b, 'float'] }, () => {
    const outer = a.shape.slice(0, -2);
    const [rows, depth] = a.shape.slice(-2);
    const columns = b.shape.at(-1);
    if (rows === undefined || depth === undefined) throw mismatch('a', a, '[…,M,K] (2 axes or more)');
    const one = b.rank === 2;
    if (columns === undefined || !(one || sameShape(b.shape.slice(0, -2), outer)) || b.shape.at(-2) !== depth) {
      const batched = outer.length === 0 ? '' : ` or […,K,N] = ${formatShape([...outer, depth]).slice(0, -1)},N]`;
      throw mismatch('b', b, `[K,N] = [${depth},N]${batched} for a = ${formatShape(a.shape)}`);
    }
    // With one b for all, the leading axes of a are rows like any others.
    const batch = one ? 1 : sizeOf(outer);
    const c = empty(a.backend, [...outer, rows, columns], a.dtype as FloatDType);
    gemmInto(a, b, c, { batch, exact });
    record({
      operation: 'matmul',
      inputs: [a, b],
      outputs: [c],
      saved: { a, b },
      backward({ cotangents: [dc], saved, needed }) {
        const [da, db] = [saved.a, saved.b].map((like, i) => (dc && needed[i] ? empty(dc.backend, like.shape, like.dtype) : null));
        if (dc && da) gemmInto(dc, saved.b, da, { transposeB: true, batch, exact });
        if (dc && db) gemmInto(saved.a, dc, db, { transposeA: true, batch, exact });
        return [da ?? null, db ?? null];
      },
    });
    return c;
  });
}

function mismatch(argument: string, tensor: Tensor, expected: string): ShapeError {
  return new ShapeError({ operation: 'matmul', argument, expected, got: formatShape(tensor.shape) });
}
