/** Products too large to be checked whole. Plain JavaScript: benchmarks and scripts use it over the built package. */

/**
 * The largest difference of 256 entries of a product from what they should be, relative to the largest of those that `counts`.
 * @param {{ m: number, n: number, k: number, transposeA?: boolean, transposeB?: boolean }} shape
 * @param {{ a: (i: number) => number, b: (i: number) => number }} factors elements as they lie
 * @param {ArrayLike<number>} actual [m, n]
 * @param {(sum: number, row: number, column: number) => number} [entry] what an entry should be, of its sum in float64
 * @param {(right: number) => boolean} [counts]
 */
export function sampledError({ m, n, k, transposeA = false, transposeB = false }, { a, b }, actual, entry = (sum) => sum, counts = () => true) {
  let [error, largest] = [0, 0];
  for (let i = 0; i < 256; i++) {
    // Steps without a common factor with the extents: every place in a tile comes up.
    const [row, column] = [(i * 1021) % m, (i * 2027 + 5) % n];
    let sum = 0;
    for (let l = 0; l < k; l++) sum += a(transposeA ? l * m + row : row * k + l) * b(transposeB ? column * k + l : l * n + column);
    const right = entry(sum, row, column);
    const difference = Math.abs((actual[row * n + column] ?? NaN) - right);
    error = difference <= error ? error : difference;
    if (counts(right)) largest = Math.max(largest, Math.abs(right));
  }
  return error / largest;
}
