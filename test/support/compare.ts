import { expect } from 'vitest';
import { epsilons, relativeError, tolerance } from './tolerances.js';

export { relativeError, tolerance };

/** Machine epsilon of float32. */
export const epsilon = epsilons.f32;

/** Fails with the error and the label when `actual` is not within `limit` of `expected`. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, limit: number, label: string): void {
  const error = relativeError(actual, expected);
  if (error <= limit) return;
  expect.fail(`${label}: relative error ${error.toExponential(2)}, at most ${limit.toExponential(2)} is allowed`);
}
