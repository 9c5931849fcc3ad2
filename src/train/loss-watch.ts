const windowSize = 64;
const leastSteps = 32;
const leastTargets = 128;
const leastDeviations = 10;
const leastFactor = 1.5;
const leastRise = 1;
/** Of a normal distribution, the standard deviation in median absolute deviations. */
const deviationsPerMad = 1.4826;

/** A loss far above those before it. */
export interface LossSpike {
  /** Of the recent losses. */
  readonly median: number;
  /** What a loss had to stay below. */
  readonly limit: number;
}

/**
 * Tells when a loss is far above its recent course. A spike is a loss above all three of
 *
 *     median + 10 · 1.4826 · MAD,   1.5 · median,   median + 1 nat
 *
 * with the median and the median absolute deviation of the last 64 steps that were taken: the first knows how noisy the run
 * is and is not moved by single outliers, the others keep a quiet run from being stopped for little. Nothing is a spike
 * within the first 32 steps, or where a step has fewer than 128 targets, whose mean a few wrong answers move by a nat.
 */
export class LossWatch {
  /** The losses remembered, oldest first: all that later answers depend on. */
  recent: readonly number[] = [];

  /** Whether `loss`, the mean over `targets` targets, is a spike; it is not remembered. */
  spike(loss: number, targets: number): LossSpike | null {
    if (this.recent.length < leastSteps || targets < leastTargets) return null;
    const middle = median(this.recent);
    const deviation = deviationsPerMad * median(this.recent.map((earlier) => Math.abs(earlier - middle)));
    const limit = Math.max(middle + leastDeviations * deviation, leastFactor * middle, middle + leastRise);
    return loss > limit ? { median: middle, limit } : null;
  }

  /** Remembers the loss of a step that was taken. */
  add(loss: number): void {
    this.recent = [...this.recent, loss].slice(-windowSize);
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}
