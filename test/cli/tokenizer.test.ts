import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/index.js';
import { tinyModel, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

describe('elapid tokenizer train', () => {
  const path = useFolder();
  const train = (out: string, ...args: readonly string[]) => runHere('tokenizer', 'train', ...args, '--out', path(out));

  beforeAll(() => {
    writeFileSync(path('text.txt'), `\uFEFF${trainingText}`);
    writeFileSync(path('lines.jsonl'), trainingText.split('\n').map((text) => `${JSON.stringify({ body: text })}\n`).join(''));
    writeFileSync(path('empty.txt'), '');
    writeFileSync(path('latin.txt'), Uint8Array.of(97, 98, 0xe9, 99));
  });

  test('writes a tokenizer.json that is read, trained with and generated with', async () => {
    const { code, stdout, stderr } = await train('subwords', path('text.txt'), '--vocabulary', '400');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(/^400 ids from [\d,]+ different words in \d+s: tokenizer\.json \([\d.]+ kB\) in .*subwords\n$/);
    const tokenizer = await loadTokenizer(path('subwords'));
    expect([tokenizer.vocabularySize, tokenizer.decode(tokenizer.encode(trainingText)) === trainingText]).toEqual([400, true]);
    const run = await runHere('train', path('text.txt'), '--tokenizer', path('subwords'), '--out', path('run'), ...tinyModel, '--steps', '2', '--validation-share', '0.1');
    expect(run.code, run.stderr).toBe(0);
    expect((await runHere('generate', path('run'), 'It is', '-n', '5')).stdout).toMatch(/^It is/);
  });

  test('the same texts give the same file; files of JSON lines are texts', async () => {
    for (const out of ['first', 'second']) expect((await train(out, path('lines.jsonl'), '--text-field', 'body', '--vocabulary', '300')).code).toBe(0);
    expect(readFileSync(path('second', 'tokenizer.json'), 'utf8')).toBe(readFileSync(path('first', 'tokenizer.json'), 'utf8'));
  });

  test('says where a text has too few pairs', async () => {
    writeFileSync(path('short.txt'), 'abab abab');
    const { code, stderr } = await train('short', path('short.txt'));
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/^258 ids \(not 4,096: no pair occurs twice any more\) from 2 different words/) as string });
  });

  test.each<[string, () => string[], number, RegExp]>([
    ['too few ids', () => [path('text.txt'), '--vocabulary', '256'], 2, /'--vocabulary <n>' argument '256' is invalid\. expected an integer from 257 to 1000000/],
    ['no number', () => [path('text.txt'), '--vocabulary', 'many'], 2, /'many' is invalid/],
    ['an empty text', () => [path('empty.txt')], 1, /the text is empty; expected some text/],
    ['another encoding', () => [path('latin.txt')], 1, /latin\.txt, byte 2: line 1 begins a document that is not UTF-8 \(byte 2 is 0xe9\)/],
    ['no such file', () => [path('nowhere.txt')], 1, /nowhere\.txt is unreadable/],
    ['an option that would have no effect', () => [path('text.txt'), '--text-field', 'body'], 2, /'--text-field' is for \.jsonl files/],
    ['no text', () => [], 2, /missing required argument 'files'/],
  ])('%s is refused, and nothing is written', async (_, args, status, message) => {
    const { code, stdout, stderr } = await train('refused', ...args());
    expect({ code, stdout }).toEqual({ code: status, stdout: '' });
    expect(stderr).toMatch(message);
    expect(existsSync(path('refused'))).toBe(false);
  });
});
