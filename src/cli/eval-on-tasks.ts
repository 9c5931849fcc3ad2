import { platform } from '#platform';
import { evalTasks, evaluateTask, loadItems, type EvalItem, type EvalTask, type EvalTaskName, type TaskResult } from '../eval/index.js';
import { loadModel, type WeightDType } from '../models/index.js';
import type { Backend } from '../tensor/index.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { duration, grouped } from './format.js';
import { measuring } from './measuring.js';
import { modelFolder } from './model-argument.js';
import { printWarning, withBackend, type ComputeOptions } from './options.js';

/** Options of `elapid eval` that matter to tasks. */
export interface EvalTasksOptions extends ComputeOptions {
  readonly dtype?: WeightDType;
  readonly verify?: true;
  readonly limit?: number;
  readonly json?: boolean;
}

/**
 * Scores a model on tasks and prints the figures, those of whole tasks only.
 * @param data the folder of the tasks' files
 */
export async function evalOnTasks(model: string, names: readonly EvalTaskName[], data: string, options: EvalTasksOptions): Promise<void> {
  const { dtype, verify, limit, json = false } = options;
  // What is wrong with a file is told before anything is computed.
  const tasks: { task: EvalTask; items: readonly EvalItem[] }[] = [];
  for (const name of names) {
    const items = await loadItems(evalTasks[name], platform.joinPath(data, `${name}.jsonl`), limit === undefined ? {} : { limit });
    tasks.push({ task: evalTasks[name], items });
  }
  await measuring((signal, progress) =>
    withBackend(options, async (backend) => {
      const folder = await modelFolder(model);
      const loaded = await loadModel(folder, backend, { dtype, verify, onWarning: printWarning });
      try {
        const tokenizer = await loadTokenizer(folder, loaded.config.vocabularySize);
        const results: TaskResult[] = [];
        for (const { task, items } of tasks) {
          const started = performance.now();
          const onProgress = (scored: number, total: number): void => {
            const left = duration(((performance.now() - started) / 1000) * (total / scored - 1));
            progress.show(`${task.name}  ${grouped(scored)} of ${grouped(total)} continuations  ${left} left`);
          };
          results.push(await evaluateTask(loaded, tokenizer, task, items, { signal, onProgress }));
        }
        progress.clear();
        process.stdout.write(json ? `${JSON.stringify(jsonOf(results, backend))}\n` : table(results));
      } finally {
        loaded.dispose();
      }
    }),
  );
}

/** A standard error that a single item has not is null. */
const jsonOf = (results: readonly TaskResult[], backend: Backend) => ({
  backend: backend.description,
  tasks: results.map(({ task, items, metrics }) => ({ task, items, metrics })),
});

/** A line for each figure. */
function table(results: readonly TaskResult[]): string {
  const figure = (value: number): string => (Math.abs(value) < 1e5 ? value.toFixed(4) : value.toExponential(4));
  const lines = results.flatMap(({ task, items, metrics }) =>
    Object.entries(metrics).map(([name, { value, standardError }]) => [task, grouped(items), name, figure(value), Number.isNaN(standardError) ? '' : `± ${figure(standardError)}`]),
  );
  const all = [['task', 'items', 'figure', 'value', '± standard error'], ...lines];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((cells) => cells[column]?.length ?? 0)));
  const isNumber = (column: number) => column === 1 || column === 3;
  return all
    .map((cells) => cells.map((cell, i) => (isNumber(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}
