import { InvalidArgumentError } from 'commander';
import { platform } from '#platform';
import { scanTaskRows } from '../task-rows.js';
import { evaluateTask, evaluationTasks, type EvaluationTask, type Figure, type TaskResult } from '../../evaluate/index.js';
import type { LanguageModel } from '../../models/index.js';
import type { Tokenizer } from '../../tokenizer/index.js';
import { didYouMean } from '../../util/nearest.js';
import { counted, duration } from '../format.js';
import type { ProgressLine } from '../progress.js';

export const taskNames = evaluationTasks.map(({ name }) => name);

/** Parses `piqa,arc_easy`. */
export function parseTasks(text: string): readonly EvaluationTask[] {
  return [...new Set(text.split(','))].map((name) => {
    const task = evaluationTasks.find((one) => one.name === name);
    if (task === undefined) throw new InvalidArgumentError(`there is no task '${name}'; expected one or more of ${taskNames.join(',')}${didYouMean(name, taskNames)}`);
    return task;
  });
}

/** What `elapid eval --task` is told. */
export interface TaskOptions {
  readonly task: readonly EvaluationTask[];
  readonly data: string;
  readonly limit?: number;
  readonly json?: boolean;
}

/** Reads all tasks' rows: a missing file or a damaged line is known before any model is loaded. */
export const readTasks = ({ task: tasks, data, limit }: TaskOptions): Promise<readonly (readonly [EvaluationTask, readonly unknown[]])[]> =>
  Promise.all(tasks.map(async (task) => [task, await scanTaskRows(platform.joinPath(data, `${task.name}.jsonl`), limit)] as const));

/** Evaluates a model on tasks, and returns what is to be printed. */
export async function evaluateTasks(
  model: LanguageModel,
  tokenizer: Tokenizer,
  tasks: Awaited<ReturnType<typeof readTasks>>,
  { json, progress, signal }: { readonly json: boolean; readonly progress: ProgressLine; readonly signal: AbortSignal },
): Promise<string> {
  const results: TaskResult[] = [];
  for (const [task, rows] of tasks) {
    const started = performance.now();
    const onProgress = (done: number, accuracy: number): void => {
      const left = ((performance.now() - started) / 1000 / done) * (rows.length - done);
      progress.show(`${task.name}: ${done} of ${counted(rows.length, 'item')}  accuracy ${accuracy.toFixed(4)}  ${duration(left)} left`);
    };
    results.push(await evaluateTask(model, tokenizer, task, rows, { onProgress, signal }));
  }
  if (!json) return table(results);
  return `${JSON.stringify(Object.fromEntries(results.map(({ task, items, accuracy, accuracyNormed, perplexity }) => [task, { items, accuracy, accuracyNormed, perplexity }])))}\n`;
}

/** `acc 0.4375 ± 0.1281`, a line each. */
function table(results: readonly TaskResult[]): string {
  const line = (cells: readonly string[]) => `${(cells[0] ?? '').padEnd(16)}${(cells[1] ?? '').padStart(6)}  ${(cells[2] ?? '').padEnd(11)}${(cells[3] ?? '').padStart(10)}  ${cells[4] ?? ''}`.trimEnd();
  const lines = results.flatMap(({ task, items, accuracy, accuracyNormed, perplexity }) =>
    [['acc', accuracy] as const, ['acc_norm', accuracyNormed] as const, ['perplexity', perplexity] as const].flatMap(([name, figure]) =>
      figure === undefined ? [] : [line([task, String(items), name, shown(figure.value), errorOf(figure)])],
    ),
  );
  return `${[line(['task', 'items', 'metric', 'value', 'standard error']), ...lines].join('\n')}\n`;
}

const shown = (value: number): string => (value < 1e5 ? value.toFixed(4) : value.toExponential(3));
const errorOf = ({ standardError }: Figure): string => (standardError === null ? '–' : `± ${shown(standardError)}`);
