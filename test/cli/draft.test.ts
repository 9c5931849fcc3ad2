import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { tinyModel, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

describe('elapid generate --draft', () => {
  const path = useFolder();

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    const train = async (out: string, ...args: readonly string[]) => {
      const { code, stderr } = await runHere('train', path('text.txt'), '--out', path(out), ...tinyModel, '--validation-share', '0', '--steps', '120', ...args);
      expect(code, stderr).toBe(0);
    };
    expect(await runHere('tokenizer', 'train', path('text.txt'), '--vocabulary', '320', '--out', path('tokenizer'))).toMatchObject({ code: 0 });
    await train('bytes', '--d-model', '24');
    await train('subwords', '--tokenizer', path('tokenizer'));
    mkdirSync(path('words'));
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(path('subwords', file), path('words', file));
    writeFileSync(path('words', 'tokenizer.json'), JSON.stringify({ decoder: { type: 'WordPiece' }, model: { type: 'WordPiece', vocab: { a: 0, '[UNK]': 1 }, unk_token: '[UNK]' } }));
  });

  const generate = (...args: readonly string[]) => runHere('generate', path('bytes'), ...args);
  const drafted = (...args: readonly string[]) => generate(...args, '--draft', path('subwords'));
  const summary = /^draft: (\d+) rounds?, ([\d.]+) of ([\d.]+) drafted bytes taken a round; (\d+) bytes? at [\d.]+[kM]? bytes\/s, the prompt included\n$/;

  test.each([
    ['It is a truth', '-t', '0', '-n', '200'],
    ['It is a truth', '-t', '0', '-n', '1'],
    ['', '-t', '0', '-n', '60'],
    ['Mr. ', '--seed', '7', '-n', '100'],
    ['Mr', '--seed', '8', '-n', '80', '--top-k', '5', '--repetition-penalty', '1.2'],
    ['She', '--seed', '3', '-n', '200', '--stop', 'e '],
    ['naïve 東京', '--seed', '4', '-n', '40', '--draft-tokens', '1'],
  ])('%j %s %s %s %s: the text of the model alone', async (...args) => {
    const plain = await generate(...args.filter((arg, i) => arg !== '--draft-tokens' && args[i - 1] !== '--draft-tokens'));
    const { code, stdout, stderr } = await drafted(...args);
    expect({ code, stdout }).toEqual({ code: 0, stdout: plain.stdout });
    expect(stderr).toMatch(summary);
  });

  test('drafts are taken, more of them where they may be wrong', async () => {
    const exact = summary.exec((await drafted('It is a truth', '-t', '0', '-n', '300')).stderr) ?? expect.fail();
    const lossy = summary.exec((await drafted('It is a truth', '-t', '0', '-n', '300', '--lossy-rank', '8')).stderr) ?? expect.fail();
    expect([exact[4], lossy[4]]).toEqual(['300', '300']);
    expect(Number(lossy[2])).toBeGreaterThan(Number(exact[2]));
  });

  test.each<[string, () => string[], RegExp]>([
    ['the model is one of subwords', () => [path('subwords'), 'It', '--draft', path('subwords')], /generate: tokenizer is one of 320 ids; expected bytes where another model drafts/],
    ['the drafter’s ids are no bytes', () => [path('bytes'), 'It', '--draft', path('words')], /draft\.tokenizer is one whose ids say nothing without their neighbours/],
    ['there is no drafter', () => [path('bytes'), 'It', '--draft', path('nowhere')], /nowhere/],
    ['a published name is no folder', () => [path('bytes'), 'It', '--draft', 'mamba-130m'], /the package has no weights of this model/],
  ])('%s: nothing is printed', async (_, args, message) => {
    const { code, stdout, stderr } = await runHere('generate', ...args());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
  });
});
