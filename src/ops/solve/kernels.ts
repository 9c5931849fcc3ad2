import { defineKernel, input, output } from '../../tensor/index.js';
import { solveGpu } from './webgpu.js';

/**
 * y = M⁻¹·R of `count` systems, or M⁻ᵀ·R with `transposed`, by elimination with partial pivoting. M [count, size, size], R and
 * y [count, size, columns]. A matrix without an inverse gives infinities or NaN.
 */
export const solve = defineKernel('solve', {
  buffers: { matrix: input.f32, right: input.f32, y: output.f32 },
  parameters: { count: 'int', size: 'int', columns: 'int', transposed: 'flag' },
  operations: ({ count, size, columns }) => count * size ** 2 * ((2 / 3) * size + 2 * columns),
  divisions: ({ size, columns }) => [{ along: 'count', strides: { matrix: size * size, right: size * columns, y: size * columns } }],
  webgpu: solveGpu,
  reference({ matrix, right, y }, { count, size, columns, transposed }) {
    for (let system = 0; system < count; system++) {
      // Rows of [M | R].
      const rows = Array.from({ length: size }, (_, i) => [
        ...Array.from({ length: size }, (_unused, j) => matrix[(system * size + (transposed ? j : i)) * size + (transposed ? i : j)] ?? NaN),
        ...Array.from({ length: columns }, (_unused, c) => right[(system * size + i) * columns + c] ?? NaN),
      ]);
      eliminate(rows);
      rows.forEach((row, i) => {
        for (let c = 0; c < columns; c++) y[(system * size + i) * columns + c] = row[size + c] ?? NaN;
      });
    }
  },
});

/** Turns [M | R] into [1 | M⁻¹·R]. */
function eliminate(rows: number[][]): void {
  const at = (i: number, j: number): number => rows[i]?.[j] ?? NaN;
  for (let k = 0; k < rows.length; k++) {
    let pivot = k;
    for (let i = k + 1; i < rows.length; i++) if (Math.abs(at(i, k)) > Math.abs(at(pivot, k))) pivot = i;
    const own = (rows[pivot] ?? []).map((value) => value / at(pivot, k));
    rows[pivot] = rows[k] ?? [];
    rows[k] = own;
    for (const [i, row] of rows.entries()) {
      if (i === k) continue;
      const factor = row[k] ?? NaN;
      rows[i] = row.map((value, j) => value - factor * (own[j] ?? NaN));
    }
  }
}
