import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { evalTasks, evaluateTask, loadItems, type EvalTaskName } from '../../src/eval/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { sharedFixture } from '../fixtures.js';
import { goldenPath } from './goldens.js';
import { hashedMamba130m } from './hashed-weights.js';

interface Golden {
  readonly items: number;
  readonly acc: number;
  readonly accNorm?: number;
  readonly perplexity?: number;
  readonly rows: readonly {
    readonly scores: readonly { readonly tokens: number; readonly continuationTokens: number; readonly logLikelihood: number; readonly greedy: boolean }[];
    readonly acc: number;
    readonly accNorm?: number;
  }[];
}

export const evalGoldens = JSON.parse(readFileSync(goldenPath('eval-scores.json'), 'utf8')) as Record<EvalTaskName, Golden>;

export const goldenTaskNames = Object.keys(evalGoldens) as EvalTaskName[];

/** The files that the goldens are of, in `../shared/fixtures`. */
export const evalFixtures = ['tokenizer/gpt-neox-20b.tokenizer.json', ...goldenTaskNames.map((name) => `text/${name}.jsonl`)];

/** Compares the first items of each task with their goldens: tokens, greedy flags and choices equal, log-likelihoods to 1e-5. */
export async function expectEvalGoldens(backend: Backend, limit: number): Promise<void> {
  const [vocabulary = ''] = evalFixtures.map(sharedFixture);
  const tokenizer = new HuggingFaceTokenizer(JSON.parse(readFileSync(vocabulary, 'utf8')));
  const model = hashedMamba130m(backend);
  try {
    for (const name of goldenTaskNames) {
      const task = evalTasks[name];
      const golden = evalGoldens[name];
      const rows = golden.rows.slice(0, limit);
      const items = await loadItems(task, sharedFixture(`text/${name}.jsonl`) ?? '', { limit });
      const { metrics, scores } = await evaluateTask(model, tokenizer, task, items);
      const counts = (all: readonly (readonly { tokens: number; continuationTokens: number; greedy: boolean }[])[]) =>
        all.map((some) => some.map(({ tokens, continuationTokens, greedy }) => ({ tokens, continuationTokens, greedy })));
      expect(counts(scores), name).toEqual(counts(rows.map((row) => row.scores)));
      for (const [i, row] of rows.entries()) {
        for (const [j, { logLikelihood }] of row.scores.entries()) {
          const error = Math.abs((scores[i]?.[j]?.logLikelihood ?? NaN) - logLikelihood);
          // Relative: the goldens are rounded to float32, 3e-5 of the largest.
          expect(error / Math.abs(logLikelihood), `${name}, item ${i}, choice ${j}`).toBeLessThan(1e-5);
        }
      }
      const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
      expect(metrics.acc?.value, name).toBeCloseTo(mean(rows.map(({ acc }) => acc)), 12);
      if (golden.accNorm !== undefined) expect(metrics.acc_norm?.value, name).toBeCloseTo(mean(rows.map(({ accNorm = NaN }) => accNorm)), 12);
      if (golden.perplexity !== undefined) {
        const perplexity = Math.exp(-mean(rows.map((row) => row.scores[0]?.logLikelihood ?? NaN)));
        if (rows.length === golden.items) expect(perplexity / golden.perplexity).toBeCloseTo(1, 6);
        expect((metrics.perplexity?.value ?? NaN) / perplexity, name).toBeCloseTo(1, 4);
      }
    }
  } finally {
    model.dispose();
  }
}
