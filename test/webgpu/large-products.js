/**
 * Large products, in the forms that only they take: extents compiled in, factors converted first, the depth in parts. Plain JavaScript over a
 * package that is handed in.
 */

import { sampledError } from '../support/sampled-product.js';

/** What an entry may differ by, as a share of the largest: a result in f16 is rounded. */
export const largeTolerance = 1e-3;

/** Exact in f16, so that no rounding of factors counts. */
const value = (/** @type {number} */ seed, /** @type {number} */ i) => ((Math.imul(i + 1, 0x9e3779b1 + 2 * seed) >>> 27) - 16) / 16;

/** What a result in f16 saturates at, and beyond it. */
const [largestHalf, beyond] = [65504, 70000];

/**
 * The largest difference of some entries from sums in float64, of each form.
 * @param {typeof import('../../src/index.js')} elapid
 * @param {typeof import('../../src/ops/matmul/gemm.js').gemmInto} gemmInto
 * @param {number} unit extents are multiples of it, or nearly: 128 for products of 2³⁴ multiplications
 * @param {'f32' | 'f16'} half the dtype of factors and results that are halves on a GPU that has them
 * @returns {Promise<{ form: string, error: number }[]>}
 */
export async function largeProductErrors({ openBackend, tensor }, gemmInto, unit, half) {
  const backend = await openBackend('webgpu', { precision: half });
  const usual = { m: 32 * unit, n: 24 * unit, k: 16 * unit };
  /** @type {{ m: number, n: number, k: number, transposeA?: boolean, transposeB?: boolean, a?: string, b?: string, c: string, bias?: boolean, accumulate?: boolean, saturate?: boolean }[]} */
  const forms = [
    { ...usual, transposeB: true, b: 'f32', c: half, bias: true, saturate: true },
    { ...usual, b: 'f32', c: half },
    { ...usual, a: 'f32', b: 'f32', c: 'f32', bias: true },
    { ...usual, transposeA: true, c: 'f32', accumulate: true },
    { ...usual, m: 32 * unit + 40, k: 16 * unit + 8, transposeB: true, b: 'f32', c: half },
    { m: 6 * unit, n: 6 * unit, k: 512 * unit, transposeA: true, c: 'f32', accumulate: true },
  ];
  const errors = [];
  try {
    for (const { m, n, k, transposeA = false, transposeB = false, a = half, b = half, c, bias = false, accumulate = false, saturate = false } of forms) {
      /** @type {(seed: number, shape: number[], dtype: any) => import('../../src/index.js').Tensor} */
      const made = (seed, shape, dtype) =>
        tensor(backend, Float32Array.from({ length: shape.reduce((size, extent) => size * extent, 1) }, (_, i) => value(seed, i)), shape, dtype);
      const biasOf = (/** @type {number} */ column) => (saturate && column % 3 === 0 ? beyond : value(4, column));
      const left = made(1, transposeA ? [k, m] : [m, k], a);
      const right = made(2, transposeB ? [n, k] : [k, n], b);
      const result = made(3, [m, n], c);
      const added = bias ? tensor(backend, Float32Array.from({ length: n }, (_, i) => biasOf(i)), [n]) : null;
      gemmInto(left, right, result, { transposeA, transposeB, bias: added, accumulate, saturate });
      const actual = await result.data();
      for (const one of [left, right, result, added]) one?.dispose();
      const entry = (/** @type {number} */ sum, /** @type {number} */ row, /** @type {number} */ column) => {
        const right = sum + (accumulate ? value(3, row * n + column) : 0) + (bias ? biasOf(column) : 0);
        return saturate && c === 'f16' ? Math.max(-largestHalf, Math.min(largestHalf, right)) : right;
      };
      // Saturated entries are exact, and would hide what others differ by.
      const counts = (/** @type {number} */ right) => Math.abs(right) < largestHalf;
      const factors = { a: (/** @type {number} */ i) => value(1, i), b: (/** @type {number} */ i) => value(2, i) };
      const error = sampledError({ m, n, k, transposeA, transposeB }, factors, actual, entry, counts);
      const flags = Object.entries({ transposeA, transposeB, bias, accumulate, saturate }).flatMap(([name, flag]) => (flag ? [name] : []));
      errors.push({ form: `${[m, n, k].join('×')} ${a}·${b} to ${c} ${flags.join(' ')}`.trim(), error });
    }
  } finally {
    await backend.close();
  }
  return errors;
}
