import type { EvalItem, MetricName } from './item.js';
import type { Score } from './score.js';

/** What an item adds to a figure: 0 or 1 of an accuracy, the log-likelihood of a perplexity. */
export function judge(metric: MetricName, { gold, choices = [] }: EvalItem, scores: readonly Score[]): number {
  const likelihoods = scores.map(({ logLikelihood }) => logLikelihood);
  switch (metric) {
    case 'perplexity':
      return likelihoods[0] ?? NaN;
    case 'acc':
      return Number(gold === undefined ? scores.every(({ greedy }) => greedy) : firstLargest(likelihoods) === gold);
    case 'acc_norm':
      return Number(firstLargest(likelihoods.map((likelihood, i) => likelihood / characters(choices[i] ?? ''))) === gold);
  }
}

/** Code points, as Python counts. */
const characters = (text: string): number => Array.from(text).length;

const firstLargest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** A figure and how far it may be off by chance. */
export interface Estimate {
  readonly value: number;
  /** Its standard error; NaN of a single item. */
  readonly standardError: number;
}

/** The mean over the items. A perplexity is e to the negative mean, and its error is to first order. */
export function estimate(metric: MetricName, values: readonly number[]): Estimate {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const standardError = Math.sqrt(squares / (values.length - 1) / values.length);
  if (metric !== 'perplexity') return { value: mean, standardError };
  const perplexity = Math.exp(-mean);
  return { value: perplexity, standardError: perplexity * standardError };
}
