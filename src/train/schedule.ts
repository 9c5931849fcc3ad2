import { ArgumentError } from '../util/errors.js';

/** Linear warm-up to a peak, then half a cosine down to a fraction of it. */
export interface LearningRateSchedule {
  readonly peak: number;
  /** Steps from 0 to the peak. */
  readonly warmupSteps: number;
  /** Length of the whole run in steps, infinite where only time ends it; from there on the rate stays at the end. */
  readonly totalSteps: number;
  /** The end, as a fraction of the peak. */
  readonly finalFraction: number;
}

/** Of a run that ends at a time: the rate is at its peak after this share of the time, if not after its warm-up steps. */
const warmupShare = 0.1;

/**
 * The learning rate of step `step`, counted from 0. A run may end at a time, too: the rate then follows whichever of the two is further, steps
 * or time, so that it is at the end of its course when the run is.
 * @param timeShare how much of the run's time is over, from 0 to 1
 * @throws ArgumentError when the schedule makes no sense
 */
export function learningRateAt({ peak, warmupSteps, totalSteps, finalFraction }: LearningRateSchedule, step: number, timeShare = 0): number {
  if (!(peak > 0) || !(warmupSteps >= 0) || !(totalSteps > 0) || !(finalFraction >= 0 && finalFraction <= 1)) {
    throw new ArgumentError({
      operation: 'learningRateAt',
      argument: 'schedule',
      expected: 'peak > 0, warmupSteps ≥ 0, totalSteps > 0, finalFraction in [0, 1]',
      got: JSON.stringify({ peak, warmupSteps, totalSteps, finalFraction }),
    });
  }
  if (step < warmupSteps && timeShare < warmupShare) return peak * Math.max((step + 1) / warmupSteps, timeShare / warmupShare);
  const bySteps = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  const byTime = (timeShare - warmupShare) / (1 - warmupShare);
  const progress = Math.max(0, Math.min(1, Math.max(bySteps, byTime)));
  return peak * (finalFraction + (1 - finalFraction) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
