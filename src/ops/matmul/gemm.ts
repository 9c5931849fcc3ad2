import { launch, type Tensor } from '../../tensor/index.js';
import { gemm } from './kernels.js';

/**
 * Launches c (+)= op(a)·op(b) + bias on matrices given as tensors [..., columns] (leading axes are rows), of any pitch. Not
 * recorded and not checked: operations check.
 */
export function gemmInto(
  a: Tensor,
  b: Tensor,
  c: Tensor,
  options: { transposeA?: boolean; transposeB?: boolean; bias?: Tensor | null; accumulate?: boolean } = {},
): void {
  const { transposeA = false, transposeB = false, bias = null, accumulate = false } = options;
  const [m, k] = transposeA ? [a.columns, a.rows] : [a.rows, a.columns];
  const n = transposeB ? b.rows : b.columns;
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
      batch: 1,
      strideA: 0,
      strideB: 0,
      strideC: 0,
      accumulate,
    },
  );
}
