import { ArgumentError } from '../util/errors.js';

/** Linear warm-up to a peak, then half a cosine down to a fraction of it. */
export interface LearningRateSchedule {
  readonly peak: number;
  /** Steps from 0 to the peak. */
  readonly warmupSteps: number;
  /** Length of the whole run in steps; from there on the rate stays at the end. */
  readonly totalSteps: number;
  /** The end, as a fraction of the peak. */
  readonly finalFraction: number;
}

/**
 * The learning rate of step `step`, counted from 0.
 * @throws ArgumentError when the schedule makes no sense
 */
export function learningRateAt({ peak, warmupSteps, totalSteps, finalFraction }: LearningRateSchedule, step: number): number {
  if (!(peak > 0) || !(warmupSteps >= 0) || !(totalSteps > 0) || !(finalFraction >= 0 && finalFraction <= 1)) {
    throw new ArgumentError({
      operation: 'learningRateAt',
      argument: 'schedule',
      expected: 'peak > 0, warmupSteps ≥ 0, totalSteps > 0, finalFraction in [0, 1]',
      got: JSON.stringify({ peak, warmupSteps, totalSteps, finalFraction }),
    });
  }
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  return peak * (finalFraction + (1 - finalFraction) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
