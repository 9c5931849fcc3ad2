/** Tasks of language models' benchmarks, scored as lm-evaluation-harness does: `elapid/eval`. */
export { evalTaskNames, evalTasks, type EvalTaskName } from './eval-tasks.js';
export { evaluateTask, type TaskResult } from './evaluate-task.js';
export type { EvalItem, EvalTask, MetricName, ScoreRequest } from './item.js';
export type { Estimate } from './judge.js';
export { loadItems } from './load-items.js';
export { scoreContinuations, type Score, type ScoreConduct } from './score.js';
