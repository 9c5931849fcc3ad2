import { defineKernel, input, optionalInput, output } from '../../tensor/index.js';
import { rounding } from './rounding.js';
import { gemmDivisions } from './divisions.js';
import { gemmGpu } from './webgpu.js';

/**
 * For each of `batch` products: c[m, n] = Σₖ op(a)[m, k]·op(b)[k, n] + bias[n], or c += … when `accumulate` is set (c is
 * then read as well). op transposes what lies in memory when its flag is set: with transposeA, a is [k, m] with rows `lda`
 * apart; with transposeB, b is [n, k] with rows `ldb` apart. Consecutive products are `strideA`, `strideB`, `strideC`
 * elements apart. With `bf16` or `half`, both factors are rounded to bfloat16 or half precision first (whose numbers end at
 * 65504: larger ones become infinite). With `saturate`, sums that a c in half precision cannot hold become ±65504.
 */
export const gemm = defineKernel('gemm', {
  buffers: { a: input.float, b: input.float, bias: optionalInput.f32, c: output.float },
  parameters: {
    m: 'int',
    n: 'int',
    k: 'int',
    transposeA: 'flag',
    transposeB: 'flag',
    lda: 'int',
    ldb: 'int',
    ldc: 'int',
    batch: 'int',
    strideA: 'int',
    strideB: 'int',
    strideC: 'int',
    accumulate: 'flag',
    bf16: 'flag',
    half: 'flag',
    saturate: 'flag',
  },
  divisions: gemmDivisions,
  webgpu: gemmGpu,
  streams: 'b',
  operations: (p) => 2 * p.batch * p.m * p.n * p.k,
  reference({ a, b, bias, c }, p) {
    const rounded = rounding(p);
    for (let batch = 0; batch < p.batch; batch++) {
      for (let i = 0; i < p.m; i++) {
        for (let j = 0; j < p.n; j++) {
          let sum = bias?.[j] ?? 0;
          for (let k = 0; k < p.k; k++) {
            const left = a[batch * p.strideA + (p.transposeA ? k * p.lda + i : i * p.lda + k)] ?? NaN;
            const right = b[batch * p.strideB + (p.transposeB ? j * p.ldb + k : k * p.ldb + j)] ?? NaN;
            sum += rounded(left) * rounded(right);
          }
          const at = batch * p.strideC + i * p.ldc + j;
          c[at] = p.accumulate ? (c[at] ?? NaN) + sum : sum;
        }
      }
    }
  },
});
