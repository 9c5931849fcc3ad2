import { defineKernel, input, optionalInput, output } from '../../tensor/index.js';
import { rounding } from '../matmul/rounding.js';
import { gatherRowsGpu, groupedProductGpu, groupedWeightsGpu, rowDotsGpu } from './webgpu.js';

/**
 * y[i, :] = x[index[i], :], times scale[i], or, with `scaleFrom`, scale[index[i]]; zeros where index[i] is −1. No index is beyond x's rows.
 */
export const gatherRows = defineKernel('gather_rows', {
  buffers: { x: input.float, index: input.i32, scale: optionalInput.f32, y: output.float },
  parameters: { rows: 'int', columns: 'int', xPitch: 'int', scaleFrom: 'flag' },
  operations: (p) => p.rows * p.columns,
  divisions: ({ columns, scaleFrom }) => [{ along: 'rows', strides: { index: 1, y: columns, ...(scaleFrom ? {} : { scale: 1 }) } }],
  webgpu: gatherRowsGpu,
  reference({ x, index, scale, y }, { rows, columns, xPitch, scaleFrom }) {
    for (let i = 0; i < rows; i++) {
      const from = index[i] ?? -1;
      const factor = scale === null ? 1 : (scale[scaleFrom ? from : i] ?? NaN);
      for (let c = 0; c < columns; c++) y[i * columns + c] = from < 0 ? 0 : factor * (x[from * xPitch + c] ?? NaN);
    }
  },
});

/** d[i] = Σ_c x[index[i], c]·y[i, c]; 0 where index[i] is −1. */
export const rowDots = defineKernel('row_dots', {
  buffers: { x: input.float, index: input.i32, y: input.float, d: output.f32 },
  parameters: { rows: 'int', columns: 'int', xPitch: 'int', yPitch: 'int' },
  operations: (p) => 2 * p.rows * p.columns,
  divisions: ({ yPitch }) => [{ along: 'rows', strides: { index: 1, y: yPitch, d: 1 } }],
  webgpu: rowDotsGpu,
  reference({ x, index, y, d }, { rows, columns, xPitch, yPitch }) {
    for (let i = 0; i < rows; i++) {
      const from = index[i] ?? -1;
      let sum = 0;
      for (let c = 0; c < columns && from >= 0; c++) sum += (x[from * xPitch + c] ?? NaN) * (y[i * yPitch + c] ?? NaN);
      d[i] = sum;
    }
  },
});

/**
 * Rows offsets[g] to offsets[g + 1] of a, times matrix g of b: c[i, j] = Σₖ a[i, k]·b[g, k, j], or with `transposeB` b[g, j, k]; zeros in the
 * rows of no group, which are the last ones. Matrices of b are k·n elements apart, without gaps. Factors are rounded as in `gemm`.
 */
export const groupedProduct = defineKernel('grouped_product', {
  buffers: { a: input.float, b: input.float, offsets: input.i32, c: output.float },
  parameters: { rows: 'int', n: 'int', k: 'int', groups: 'int', transposeB: 'flag', lda: 'int', bf16: 'flag', half: 'flag' },
  operations: (p) => 2 * p.rows * p.n * p.k,
  touched: (p) => ({ b: Math.min(p.groups, p.rows) * p.n * p.k }),
  webgpu: groupedProductGpu,
  reference({ a, b, offsets, c }, p) {
    const { rows, n, k: depth, groups, transposeB, lda } = p;
    const rounded = rounding(p);
    let group = 0;
    for (let i = 0; i < rows; i++) {
      while (group < groups && i >= (offsets[group + 1] ?? 0)) group++;
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let k = 0; k < depth && group < groups; k++) {
          sum += rounded(a[i * lda + k] ?? NaN) * rounded(b[group * n * depth + (transposeB ? j * depth + k : k * n + j)] ?? NaN);
        }
        c[i * n + j] = sum;
      }
    }
  },
});

/**
 * c[g, i, j] = Σₜ a[t, i]·b[t, j] over the rows t of group g, offsets[g] to offsets[g + 1]; with `accumulate` it is added to c. Zero, or
 * nothing, for a group without rows. Factors are rounded as in `gemm`.
 */
export const groupedWeights = defineKernel('grouped_weights', {
  buffers: { a: input.float, b: input.float, offsets: input.i32, c: output.float },
  parameters: { rows: 'int', m: 'int', n: 'int', groups: 'int', lda: 'int', ldb: 'int', accumulate: 'flag', bf16: 'flag', half: 'flag' },
  operations: (p) => 2 * p.rows * p.m * p.n,
  webgpu: groupedWeightsGpu,
  reference({ a, b, offsets, c }, p) {
    const { m, n, groups, lda, ldb, accumulate } = p;
    const rounded = rounding(p);
    for (let g = 0; g < groups; g++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let t = offsets[g] ?? 0; t < (offsets[g + 1] ?? 0); t++) sum += rounded(a[t * lda + i] ?? NaN) * rounded(b[t * ldb + j] ?? NaN);
          const at = (g * m + i) * n + j;
          c[at] = accumulate ? (c[at] ?? NaN) + sum : sum;
        }
      }
    }
  },
});
