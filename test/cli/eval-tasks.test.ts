import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { evalTasks, evaluateTask, loadItems } from '../../src/eval/index.js';
import { LanguageModel, loadModel, mambaConfig, mambaFamily, saveModel } from '../../src/models/index.js';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import { useBackend } from '../support/backends.js';
import { startCli } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

describe('elapid eval --task', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();
  const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

  beforeAll(async () => {
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 16, layers: 2, initialisation: { embeddingDeviation: 0.5 } }), backend(), 1);
    await saveModel(model, path('run'));
    model.dispose();
    writeFileSync(path('piqa.jsonl'), lines(['one', 'two', 'three', 'four'].map((goal, label) => ({ goal, sol1: `${goal} is so`, sol2: 'it is not', label: label % 2 }))));
    writeFileSync(path('lambada_openai.jsonl'), lines(['a b c', 'the end of it', 'x y'].map((text) => ({ text }))));
    writeFileSync(path('winogrande.jsonl'), '{"sentence":"_ won","option1":"A"}\n');
  });

  test.each([
    { limit: undefined, names: ['piqa', 'lambada_openai'] as const },
    { limit: 2, names: ['lambada_openai', 'piqa'] as const },
  ])('--json is what evaluateTask gives: $names, limit $limit', async ({ limit, names }) => {
    const args = ['eval', path('run'), '--task', names.join(','), '--data', path('.'), '--threads', '1'];
    const { code, stdout, stderr } = await runHere(...args, ...(limit === undefined ? [] : ['--limit', String(limit)]), '--json');
    expect(code, stderr).toBe(0);
    const model = await loadModel(path('run'), backend());
    const expected = [];
    for (const name of names) {
      const items = await loadItems(evalTasks[name], path(`${name}.jsonl`), limit === undefined ? {} : { limit });
      const { task, items: count, metrics } = await evaluateTask(model, new ByteTokenizer(), evalTasks[name], items);
      expected.push({ task, items: count, metrics });
    }
    model.dispose();
    expect((JSON.parse(stdout) as { tasks: unknown }).tasks).toEqual(expected);
  });

  test('prints a line for each figure', async () => {
    const { code, stdout, stderr } = await runHere('eval', path('run'), '--task', 'piqa', '--task', 'lambada_openai,piqa', '--data', path('.'), '--threads', '1');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(
      /^task {12}items {2}figure +value {2}± standard error\npiqa +4 {2}acc +\d\.\d{4} {2}± \d\.\d{4}\npiqa +4 {2}acc_norm +\d\.\d{4} {2}± \d\.\d{4}\nlambada_openai +3 {2}acc +\d\.\d{4} {2}± .*\nlambada_openai +3 {2}perplexity +\S+ {2}± \S+\n$/,
    );
  });

  test.each<{ name: string; args: () => string[]; code: number; message: RegExp }>([
    { name: 'another task', args: () => ['--task', 'piqa,mmlu'], code: 2, message: /there is no task 'mmlu'; expected some of lambada_openai, piqa,/ },
    { name: 'a text too', args: () => ['text.txt', '--task', 'piqa'], code: 2, message: /a text \(text\.txt\) is not read with '--task'/ },
    { name: 'neither', args: () => [], code: 2, message: /missing argument 'text': expected a text, or '--task'/ },
    { name: '--data of a text', args: () => [path('piqa.jsonl'), '--data', '.'], code: 2, message: /option '--data' is for '--task'/ },
    { name: '--chunk', args: () => ['--task', 'piqa', '--chunk', '3'], code: 2, message: /option '--chunk' is for a text, not for '--task'/ },
    { name: '--text-field', args: () => ['--task', 'piqa', '--text-field', 'a'], code: 2, message: /option '--text-field' is for a text, not for '--task'/ },
    { name: 'no file', args: () => ['--task', 'arc_easy', '--data', path('.')], code: 1, message: /arc_easy\.jsonl is unreadable/ },
    { name: 'a file of other rows', args: () => ['--task', 'piqa,winogrande', '--data', path('.')], code: 1, message: /winogrande\.jsonl, line 1, key 'option2'/ },
  ])('is refused: $name', async ({ args, code, message }) => {
    const result = await runHere('eval', path('run'), ...args());
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(message);
  });

  test('can be interrupted', async () => {
    writeFileSync(path('arc_easy.jsonl'), lines(Array.from({ length: 20_000 }, () => ({ query: `Question: ${'x'.repeat(400)}`, choices: ['a', 'b'], gold: 0 }))));
    const running = startCli(['eval', path('run'), '--task', 'arc_easy', '--data', path('.'), '--threads', '1']);
    await new Promise<void>((resolve) => running.child.stderr.once('data', () => resolve()));
    running.child.kill('SIGINT');
    expect(await running.result).toMatchObject({ code: 130, stdout: '' });
  });
});
