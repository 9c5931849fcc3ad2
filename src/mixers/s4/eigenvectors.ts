/**
 * Eigenvalues and eigenvectors of a real skew-symmetric matrix S: S·v = i·w·v with real w. Householder reflections make S tridiagonal;
 * −i times that is similar to a real symmetric tridiagonal matrix T by powers of i on its diagonal; the implicit QL algorithm does the
 * rest. Float64; n³ operations.
 * @param skew S, [n][n]
 * @returns w in ascending order, and for each the eigenvector as real and imaginary parts [n], of norm 1 and any phase
 *
 * Source: the tridiagonalisation and QL as in EISPACK's tred2 and tql2 (Wilkinson & Reinsch 1971).
 */
export function skewEigenvectors(skew: readonly (readonly number[])[]): { readonly value: number; readonly re: Float64Array; readonly im: Float64Array }[] {
  const n = skew.length;
  const matrix = skew.map((row) => Float64Array.from(row));
  // Columns of Q: S = Q·tridiagonal·Qᵀ.
  const rotation = identity(n);
  for (let k = 0; k < n - 2; k++) reflect(matrix, rotation, k);
  // The tridiagonal matrix has −tₖ above and tₖ below its diagonal. With D = diag(iᵏ), D*·(−i·tridiagonal)·D has −tₖ on both sides.
  const diagonal = new Float64Array(n);
  const beside = Float64Array.from({ length: n }, (_, k) => (k === 0 ? 0 : -at(matrix, k, k - 1)));
  const vectors = identity(n);
  symmetricTridiagonal(diagonal, beside, vectors);
  const order = [...diagonal.keys()].sort((i, j) => (diagonal[i] ?? NaN) - (diagonal[j] ?? NaN));
  return order.map((column) => {
    const [re, im] = [new Float64Array(n), new Float64Array(n)];
    for (let row = 0; row < n; row++) {
      for (let k = 0; k < n; k++) {
        const value = at(rotation, row, k) * at(vectors, column, k);
        // iᵏ
        if (k % 2 === 0) re[row] = (re[row] ?? NaN) + (k % 4 === 0 ? value : -value);
        else im[row] = (im[row] ?? NaN) + (k % 4 === 1 ? value : -value);
      }
    }
    return { value: diagonal[column] ?? NaN, re, im };
  });
}

type Matrix = readonly Float64Array[];

const at = (matrix: Matrix, i: number, j: number): number => matrix[i]?.[j] ?? NaN;
const rowOf = (matrix: Matrix, i: number): Float64Array => matrix[i] as Float64Array;
const identity = (n: number): Float64Array[] => Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));

/** Makes column k zero below its subdiagonal, by a reflection from both sides, and notes the reflection. */
function reflect(matrix: Matrix, rotation: Matrix, k: number): void {
  const n = matrix.length;
  const v = Float64Array.from({ length: n }, (_, i) => (i > k ? at(matrix, i, k) : 0));
  const norm = Math.hypot(...v);
  if (norm === 0) return;
  v[k + 1] = (v[k + 1] ?? NaN) + ((v[k + 1] ?? NaN) < 0 ? -norm : norm);
  const square = v.reduce((sum, value) => sum + value * value, 0);
  const scale = 2 / square;
  const products = new Float64Array(n);
  for (let i = k + 1; i < n; i++) rowOf(matrix, i).forEach((value, column) => (products[column] = (products[column] ?? NaN) + (v[i] ?? NaN) * value));
  for (let i = k + 1; i < n; i++) {
    const row = rowOf(matrix, i);
    for (let column = 0; column < n; column++) row[column] = (row[column] ?? NaN) - scale * (v[i] ?? NaN) * (products[column] ?? NaN);
  }
  for (const side of [matrix, rotation]) {
    for (const row of side) {
      let product = 0;
      for (let i = k + 1; i < n; i++) product += (row[i] ?? NaN) * (v[i] ?? NaN);
      for (let i = k + 1; i < n; i++) row[i] = (row[i] ?? NaN) - scale * product * (v[i] ?? NaN);
    }
  }
}

/**
 * Implicit QL with Wilkinson's shifts, in place.
 * @param diagonal becomes the eigenvalues
 * @param beside [k] is the number between rows k − 1 and k
 * @param vectors becomes the eigenvectors, as rows
 */
function symmetricTridiagonal(diagonal: Float64Array, beside: Float64Array, vectors: Matrix): void {
  const n = diagonal.length;
  const d = (i: number) => diagonal[i] ?? NaN;
  const e = Float64Array.from({ length: n }, (_, i) => beside[i + 1] ?? 0);
  const between = (i: number) => e[i] ?? NaN;
  for (let l = 0; l < n; l++) {
    for (let turn = 0; ; turn++) {
      let m = l;
      while (m < n - 1 && Math.abs(between(m)) > Number.EPSILON * (Math.abs(d(m)) + Math.abs(d(m + 1)))) m++;
      if (m === l) break;
      if (turn === 100) throw new RangeError('skewEigenvectors: the QL algorithm did not converge');
      let g = (d(l + 1) - d(l)) / (2 * between(l));
      let r = Math.hypot(g, 1);
      g = d(m) - d(l) + between(l) / (g + (g < 0 ? -r : r));
      let [sine, cosine, p] = [1, 1, 0];
      let i = m - 1;
      for (; i >= l; i--) {
        const [f, b] = [sine * between(i), cosine * between(i)];
        r = Math.hypot(f, g);
        e[i + 1] = r;
        if (r === 0) {
          diagonal[i + 1] = d(i + 1) - p;
          e[m] = 0;
          break;
        }
        sine = f / r;
        cosine = g / r;
        g = d(i + 1) - p;
        r = (d(i) - g) * sine + 2 * cosine * b;
        p = sine * r;
        diagonal[i + 1] = g + p;
        g = cosine * r - b;
        const [lower, upper] = [rowOf(vectors, i), rowOf(vectors, i + 1)];
        for (let k = 0; k < n; k++) {
          const [low, high] = [lower[k] ?? NaN, upper[k] ?? NaN];
          upper[k] = sine * low + cosine * high;
          lower[k] = cosine * low - sine * high;
        }
      }
      if (r === 0 && i >= l) continue;
      diagonal[l] = d(l) - p;
      e[l] = g;
      e[m] = 0;
    }
  }
}
