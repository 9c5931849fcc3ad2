export type Matrix = number[][];

export const multiplied = (x: Matrix, y: Matrix): Matrix => x.map((row) => (y[0] ?? []).map((_, j) => row.reduce((sum, value, k) => sum + value * (y[k]?.[j] ?? NaN), 0)));

/** e^M, by scaling, Taylor's series and squaring. */
export function matrixExponential(M: Matrix): Matrix {
  const size = Math.max(...M.flat().map(Math.abs), 1e-300) * M.length;
  const halvings = Math.max(0, Math.ceil(Math.log2(size)) + 2);
  const small = M.map((row) => row.map((value) => value / 2 ** halvings));
  let term: Matrix = M.map((_, i) => M.map((__, j) => Number(i === j)));
  let result = term;
  for (let k = 1; k < 20; k++) {
    term = multiplied(term, small).map((row) => row.map((value) => value / k));
    result = result.map((row, i) => row.map((value, j) => value + (term[i]?.[j] ?? NaN)));
  }
  for (let i = 0; i < halvings; i++) result = multiplied(result, result);
  return result;
}
