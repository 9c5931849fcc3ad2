// Medians and spreads.

/** @param {readonly number[]} values at least one @param {number} share in [0, 1] */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? NaN;
  const high = sorted[Math.ceil(at)] ?? NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** @param {readonly number[]} values at least one */
export const median = (values) => quantile(values, 0.5);

/**
 * What is kept of repeated runs: the median, how many there were, and the lowest and highest.
 * @param {readonly number[]} values at least one
 */
export function summarise(values) {
  return { median: rounded(median(values)), runs: values.length, spread: [rounded(Math.min(...values)), rounded(Math.max(...values))] };
}

/** Four significant digits: more is noise. @param {number} value */
export const rounded = (value) => (Number.isFinite(value) ? Number(value.toPrecision(4)) : value);
