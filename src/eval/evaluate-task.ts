import type { LanguageModel } from '../models/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { ArgumentError } from '../util/errors.js';
import type { EvalItem, EvalTask, MetricName } from './item.js';
import { estimate, judge, type Estimate } from './judge.js';
import { scoreContinuations, type Score, type ScoreConduct } from './score.js';

/** What a model reaches on a task. */
export interface TaskResult {
  readonly task: string;
  readonly items: number;
  /** The task's figures, by name. */
  readonly metrics: Readonly<Partial<Record<MetricName, Estimate>>>;
  /** Of each item the scores of its requests. */
  readonly scores: readonly (readonly Score[])[];
}

/**
 * Scores a model on items of a task, in the way of lm-evaluation-harness.
 * @param items as the task's `item` makes them of rows
 * @throws ArgumentError where there are no items, and as `scoreContinuations`
 */
export async function evaluateTask(model: LanguageModel, tokenizer: Tokenizer, task: EvalTask, items: readonly EvalItem[], conduct: ScoreConduct = {}): Promise<TaskResult> {
  if (items.length === 0) throw new ArgumentError({ operation: 'evaluateTask', argument: 'items', expected: 'at least one', got: 'none' });
  const flat = await scoreContinuations(model, tokenizer, items.flatMap(({ requests }) => requests), conduct);
  let at = 0;
  const scores = items.map(({ requests }) => flat.slice(at, (at += requests.length)));
  const metrics = task.metrics.map((metric) => [metric, estimate(metric, items.map((item, i) => judge(metric, item, scores[i] ?? [])))] as const);
  return { task: task.name, items: items.length, metrics: Object.fromEntries(metrics), scores };
}
