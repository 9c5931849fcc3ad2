import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { stepsOf, tinyModel, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

describe('elapid train on documents', () => {
  const path = useFolder();
  const stories = trainingText.split('\n\n').filter((story) => story !== '');

  beforeAll(() => {
    writeFileSync(path('s.txt'), stories.join('\n<|endoftext|>\n'));
    writeFileSync(path('s.jsonl'), stories.map((story, i) => `${JSON.stringify({ text: i < stories.length - 1 ? `${story}\n` : story })}\n`).join(''));
    writeFileSync(path('held.txt'), trainingText.slice(0, 500));
  });

  const train = (out: string, text: readonly string[], ...more: readonly string[]) =>
    runHere('train', ...text, '--out', path(out), ...(more.includes('--validation') ? tinyModel : tinyRun), '--steps', '4', ...more);

  test('text with separators, JSON lines and token shards of the same documents give the same run', async () => {
    const separated = await train('a', [path('s.txt')], '--document-separator', '<|endoftext|>');
    expect(separated.stderr).toMatch(/^[\d,]+ parameters, \d+ training and \d+ held-out documents, on cpu/);
    expect(separated.code).toBe(0);
    expect((await train('b', [path('s.jsonl')])).code).toBe(0);
    const tokenized = await runHere('tokenize', path('s.jsonl'), '--out', path('shards'));
    expect(tokenized).toMatchObject({ code: 0, stdout: '' });
    expect(tokenized.stderr).toMatch(/^\d+ documents of [\d,]+ tokens in 1 shard, in /);
    expect(readdirSync(path('shards')).sort()).toEqual(['00000.tokens', 'tokens.json']);
    expect((await train('c', [path('shards')])).code).toBe(0);
    const model = (name: string) => readFileSync(path(name, 'model.safetensors'));
    expect(model('b').equals(model('a'))).toBe(true);
    expect(model('c').equals(model('a'))).toBe(true);
    expect(stepsOf(path('c', 'metrics.jsonl'))).toEqual(stepsOf(path('a', 'metrics.jsonl')));
  });

  test('several files and a held-out file, gone on with by --resume', async () => {
    const { code, stderr } = await train('many', [path('s.txt'), path('held.txt')], '--validation', path('held.txt'));
    expect(code).toBe(0);
    expect(stderr).toMatch(/, 2 training and 1 held-out documents, /);
    expect(JSON.parse(readFileSync(path('many', 'run.json'), 'utf8'))).toMatchObject({ text: [path('s.txt'), path('held.txt')], validation: path('held.txt') });
    expect((await runHere('train', '--resume', path('many'))).code).toBe(0);
  });

  test('a held-out file for one plain text', async () => {
    const { code, stderr } = await train('plain', [path('s.txt')], '--validation', path('held.txt'));
    expect(code).toBe(0);
    expect(stderr).toMatch(/ training and 500 held-out tokens, /);
  });

  test('says what is wrong with the data', async () => {
    writeFileSync(path('bad.jsonl'), '{"text":"a"}\n{"text":\n{"text":"c"}\n');
    expect((await train('bad', [path('bad.jsonl')], '--validation', path('held.txt'))).stderr).toMatch(/bad\.jsonl, byte 13: line 2 is not JSON/);
    expect((await runHere('tokenize', path('bad.jsonl'), '--out', path('bad-shards'))).code).toBe(1);
    expect(existsSync(path('bad-shards'))).toBe(false);
    mkdirSync(path('no-shards'));
    expect((await train('half', [path('no-shards')])).stderr).toMatch(/no-shards is an empty folder; expected a file of text/);
    expect((await runHere('tokenize', path('s.jsonl'), '--out', path('shards'))).stderr).toMatch(/shards already holds token shards\. Hint: --overwrite replaces it/);
  });
});
