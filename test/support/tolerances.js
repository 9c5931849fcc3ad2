/** The table of tolerances, for every backend and dtype. Plain JavaScript: browsers run it as it stands. */

/** Machine epsilon of the formats a tensor is stored in. */
export const epsilons = { f32: 2 ** -24, f16: 2 ** -11 };

/**
 * Relative to the largest expected magnitude, 32 roundings times the square root of the longest sum (independent rounding
 * errors add up as a random walk); and four times what an input was rounded to, whose errors grow with the sum as it does.
 * @param {number} [reductionLength]
 * @param {number} [rounding]
 */
export function tolerance(reductionLength = 1, rounding = 0) {
  return 32 * epsilons.f32 * Math.sqrt(reductionLength) + 4 * rounding;
}

/**
 * For tensors stored in half precision: sums are float32, so that the roundings do not grow with their length.
 */
export const halfTolerance = 16 * epsilons.f16;

/**
 * Largest |a − b| over the largest |b|; NaN where either is not finite and they differ.
 * @param {ArrayLike<number>} actual
 * @param {ArrayLike<number>} expected
 */
export function relativeError(actual, expected) {
  if (actual.length !== expected.length) return NaN;
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < actual.length; i++) {
    const a = actual[i] ?? NaN;
    const b = expected[i] ?? NaN;
    if (a === b && !Number.isFinite(a)) continue;
    if (!Number.isFinite(a) || !Number.isFinite(b)) return NaN;
    difference = Math.max(difference, Math.abs(a - b));
    magnitude = Math.max(magnitude, Math.abs(b));
  }
  return difference === 0 ? 0 : difference / magnitude;
}
