import { expect } from 'vitest';

/** Machine epsilon of float32. */
export const epsilon = 2 ** -24;

/**
 * The table of tolerances: relative to the largest expected magnitude, 32 roundings times the square root of the longest
 * sum (independent rounding errors add up as a random walk).
 */
export function tolerance(reductionLength = 1): number {
  return 32 * epsilon * Math.sqrt(reductionLength);
}

/** Largest |a − b| over the largest |b|; NaN where either is not finite and they differ. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
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

/** Fails with the error and the label when `actual` is not within `limit` of `expected`. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, limit: number, label: string): void {
  const error = relativeError(actual, expected);
  if (error <= limit) return;
  expect.fail(`${label}: relative error ${error.toExponential(2)}, at most ${limit.toExponential(2)} is allowed`);
}
