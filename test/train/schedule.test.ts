import { expect, test } from 'vitest';
import { learningRateAt } from '../../src/train/index.js';

const course = (progress: number) => 0.1 + 0.9 * 0.5 * (1 + Math.cos(Math.PI * progress));

test.each([
  { totalSteps: 30, step: 0, share: 0, rate: 0.1 },
  { totalSteps: 30, step: 9, share: 0, rate: 1 },
  { totalSteps: 30, step: 20, share: 0, rate: course(0.5) },
  { totalSteps: 30, step: 30, share: 0, rate: 0.1 },
  // Time alone ends the run: a tenth of it, or the warm-up's steps, until the peak.
  { totalSteps: Infinity, step: 0, share: 0, rate: 0.1 },
  { totalSteps: Infinity, step: 4, share: 0.02, rate: 0.5 },
  { totalSteps: Infinity, step: 4, share: 0.08, rate: 0.8 },
  { totalSteps: Infinity, step: 20, share: 0.05, rate: 1 },
  { totalSteps: Infinity, step: 3, share: 0.55, rate: course(0.5) },
  { totalSteps: Infinity, step: 1000, share: 0.55, rate: course(0.5) },
  { totalSteps: Infinity, step: 1000, share: 1, rate: 0.1 },
  // Both: whichever is further.
  { totalSteps: 30, step: 20, share: 0.1, rate: course(0.5) },
  { totalSteps: 30, step: 20, share: 0.775, rate: course(0.75) },
  { totalSteps: 30, step: 12, share: 1, rate: 0.1 },
])('the rate of step $step of $totalSteps at $share of the time', ({ totalSteps, step, share, rate }) => {
  expect(learningRateAt({ peak: 1, warmupSteps: 10, totalSteps, finalFraction: 0.1 }, step, share)).toBeCloseTo(rate, 12);
});
