import { launch, type Tensor } from '../../tensor/index.js';
import { gemm } from './kernels.js';
import { roundedFactors } from './rounding.js';

/** Which form of product `gemmInto` launches. */
export interface GemmOptions {
  /** a is given transposed, [K, M]. */
  readonly transposeA?: boolean;
  /** b is given transposed, [N, K]. */
  readonly transposeB?: boolean;
  /** [N], added to every row of the product. */
  readonly bias?: Tensor | null;
  /** Adds to what c holds. */
  readonly accumulate?: boolean;
  /** A c in half precision gets ±65504 for sums beyond them, not infinities. */
  readonly saturate?: boolean;
  /** Factors are not rounded, whatever precision the backend was opened with. */
  readonly exact?: boolean;
  /** Number of products: the rows of a, b and c are then that many matrices, one after the other. Default 1. */
  readonly batch?: number;
}

/**
 * Launches c (+)= op(a)·op(b) + bias on matrices given as tensors [..., columns] (leading axes are rows), of any pitch, with
 * the precision that the backend was opened with. Not recorded and not checked: operations check.
 */
export function gemmInto(a: Tensor, b: Tensor, c: Tensor, options: GemmOptions = {}): void {
  const { transposeA = false, transposeB = false, bias = null, accumulate = false, saturate = false, exact = false, batch = 1 } = options;
  const [aRows, bRows, cRows] = [a.rows / batch, b.rows / batch, c.rows / batch];
  const [m, k] = transposeA ? [a.columns, aRows] : [aRows, a.columns];
  const n = transposeB ? bRows : b.columns;
  launch(
    gemm,
    { a, b, bias, c },
    {
      m,
      n,
      k,
      transposeA,
      transposeB,
      lda: a.pitch,
      ldb: b.pitch,
      ldc: c.pitch,
      batch,
      strideA: aRows * a.pitch,
      strideB: bRows * b.pitch,
      strideC: cRows * c.pitch,
      accumulate,
      ...roundedFactors(exact ? 'f32' : c.backend.precision, m),
      saturate,
    },
  );
}
