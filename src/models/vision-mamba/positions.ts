/** Weight of a value at a distance from where one is wanted, by Keys' cubic with a = −¾, PyTorch's. */
function cubic(distance: number): number {
  const x = Math.abs(distance);
  if (x <= 1) return (1.25 * x - 2.25) * x * x + 1;
  return x < 2 ? ((-0.75 * x + 3.75) * x - 6) * x + 3 : 0;
}

/** Of each of `to` places, the four places of `from` that it is made of, and their weights. */
function taps(from: number, to: number): { readonly at: number; readonly weight: number }[][] {
  return Array.from({ length: to }, (_, i) => {
    const place = ((i + 0.5) * from) / to - 0.5;
    const first = Math.floor(place) - 1;
    return [0, 1, 2, 3].map((k) => ({ at: Math.min(from - 1, Math.max(0, first + k)), weight: cubic(place - first - k) }));
  });
}

/**
 * A square grid of vectors, stretched to another: bicubic, as PyTorch's `interpolate` without `align_corners`.
 * @param grid [from,from,D] @returns [to,to,D]
 */
export function resizeGrid(grid: Float32Array, from: number, to: number, dModel: number): Float32Array {
  const along = taps(from, to);
  const result = new Float32Array(to * to * dModel);
  for (const [r, rows] of along.entries()) {
    for (const [c, columns] of along.entries()) {
      for (let d = 0; d < dModel; d++) {
        let total = 0;
        for (const row of rows) for (const column of columns) total += row.weight * column.weight * (grid[(row.at * from + column.at) * dModel + d] ?? NaN);
        result[(r * to + c) * dModel + d] = total;
      }
    }
  }
  return result;
}
