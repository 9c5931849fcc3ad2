import type { Division } from '../../tensor/index.js';

/** What of gemm's parameters its divisions depend on. */
interface GemmParameters {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
  readonly strideA: number;
  readonly strideB: number;
  readonly strideC: number;
  readonly saturate: boolean;
}

/**
 * Products, rows, columns, and, where nothing else makes a factor smaller, depths: the second part is then added to the first,
 * which a c in half precision rounds in between. That is no way to saturate: a sum may leave the range and come back.
 */
export function gemmDivisions(p: GemmParameters): Division<'a' | 'b' | 'bias' | 'c', 'batch' | 'm' | 'n' | 'k' | 'accumulate'>[] {
  return [
    { along: 'batch', strides: { a: p.strideA, b: p.strideB, c: p.strideC } },
    { along: 'm', strides: { a: p.transposeA ? 1 : p.lda, c: p.ldc } },
    { along: 'n', strides: { b: p.transposeB ? p.ldb : 1, bias: 1, c: 1 } },
    ...(p.saturate
      ? []
      : [
          {
            along: 'k' as const,
            strides: { a: p.transposeA ? p.lda : 1, b: p.transposeB ? 1 : p.ldb },
            second: () => ({ accumulate: 1 }),
            onlyFirst: ['bias' as const],
          },
        ]),
  ];
}
