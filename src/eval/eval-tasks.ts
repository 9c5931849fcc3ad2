import type { EvalTask } from './item.js';
import { arc, hellaSwag, lambada, openBookQa, piqa, winoGrande } from './rows.js';

/** The tasks, by the harness's names. A task of your own is one more such object. */
export const evalTasks = {
  lambada_openai: { name: 'lambada_openai', metrics: ['acc', 'perplexity'], item: lambada },
  piqa: { name: 'piqa', metrics: ['acc', 'acc_norm'], item: piqa },
  arc_easy: { name: 'arc_easy', metrics: ['acc', 'acc_norm'], item: arc },
  arc_challenge: { name: 'arc_challenge', metrics: ['acc', 'acc_norm'], item: arc },
  winogrande: { name: 'winogrande', metrics: ['acc'], item: winoGrande },
  hellaswag: { name: 'hellaswag', metrics: ['acc', 'acc_norm'], item: hellaSwag },
  openbookqa: { name: 'openbookqa', metrics: ['acc', 'acc_norm'], item: openBookQa },
} as const satisfies Record<string, EvalTask>;

/** Names of the tasks there are. */
export type EvalTaskName = keyof typeof evalTasks;

export const evalTaskNames = Object.keys(evalTasks) as readonly EvalTaskName[];
