import { existsSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { readMetrics, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

const tiny = ['--d-model', '8', '--layers', '1', '--d-state', '2', '--batch-size', '2', '--length', '8', '--threads', '1', '--steps', '4', '--evaluate-every', '2'];

describe('a run whose evaluation cannot work', () => {
  const path = useFolder();
  const jsonl = (file: string, ...texts: readonly string[]) => writeFileSync(path(file), texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));

  beforeAll(() => {
    writeFileSync(path('text.txt'), trainingText.slice(0, 1000));
    writeFileSync(path('letter.txt'), 'a');
    writeFileSync(path('short.txt'), 'It is a truth.');
    jsonl('even.jsonl', 'one document is here now', '', 'three documents', 'x');
    jsonl('held.jsonl', '', 'x', '', 'y', 'z');
    jsonl('letters.jsonl', 'a', 'b', 'c');
    jsonl('good.jsonl', 'one document', 'another document', 'a third');
  });

  test.each([
    { what: 'one letter', args: ['text.txt', '--validation', 'letter.txt'], message: /the held-out text is 1 token; expected at least 2 tokens/ },
    { what: 'a share that rounds to nothing', args: ['text.txt', '--validation-share', '0.0001'], message: /the held-out text has 0 tokens; expected at least 2/ },
    { what: 'a share that rounds to one token', args: ['text.txt', '--validation-share', '0.001'], message: /the held-out text is 1 token/ },
    { what: 'documents of 0 and 1 token', args: ['even.jsonl', '--validation-share', '0.5'], message: /the held-out text is 2 documents of 1 token in all; expected a document of at least 2 tokens/ },
    { what: 'held-out documents of their own', args: ['good.jsonl', '--validation', 'held.jsonl'], message: /the held-out text is 5 documents of 3 tokens in all; expected a document of at least 2 tokens/ },
    { what: 'nothing to train on', args: ['letters.jsonl', '--validation', 'good.jsonl'], message: /the training text is 3 documents of 3 tokens in all; expected a document/ },
    { what: 'less than a batch', args: ['short.txt'], message: /the training text is 13 tokens; expected at least 17 for a batch/ },
  ])('ends before its first step: $what', async ({ args, message }) => {
    const [text = '', option = '', value = ''] = args;
    const more = option === '' ? [] : [option, option === '--validation' ? path(value) : value];
    const { code, stderr } = await runHere('train', path(text), ...more, '--out', path('no-run'), ...tiny);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^step/m);
    expect(existsSync(path('no-run'))).toBe(false);
  });

  test.each([
    { what: 'a text', args: ['text.txt'] },
    { what: 'documents', args: ['good.jsonl', '--sample-every', '2'] },
    { what: 'one document', args: ['text.txt', '--document-separator', '---'] },
  ])('with nothing held out trains, and says so: $what', async ({ what, args: [text = '', ...more] }) => {
    const { code, stderr } = await runHere('train', path(text), ...more, '--out', path(what), '--validation-share', '0', ...tiny.slice(0, -2));
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^nothing is held out: the run does not evaluate$/m);
    expect(stderr).toMatch(/^done in \d+s of training: model in /m);
    expect(stderr).not.toContain('held-out loss');
    const lines = readMetrics(path(what, 'metrics.jsonl'));
    expect(lines.filter(({ loss }) => loss !== undefined)).toHaveLength(4);
    expect(lines.some(({ validationLoss }) => validationLoss !== undefined)).toBe(false);
    expect((await runHere('train', '--resume', path(what), '--threads', '1', '--steps', '5')).code).toBe(0);
  });

  test('an option that would have no effect is wrong usage', async () => {
    const { code } = await runHere('train', path('text.txt'), '--out', path('no-run'), '--validation-share', '0', ...tiny);
    expect(code).toBe(2);
  });
});
