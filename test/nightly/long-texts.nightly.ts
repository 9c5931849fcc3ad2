import { closeSync, openSync, writeSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadTextFile, openTextDocuments } from '../../src/data/index.js';
import { ByteTokenizer, HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { runCli, tinyRun, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();
const text = Buffer.from(trainingText);
const repeats = Math.ceil(600_000_000 / text.length);
const size = repeats * text.length;

beforeAll(() => {
  const file = openSync(path('long.txt'), 'w');
  const block = Buffer.concat(Array<Buffer>(1000).fill(text));
  for (let left = size; left > 0; left -= block.length) writeSync(file, block, 0, Math.min(left, block.length));
  closeSync(file);
});

/** Whether tokens are the text again and again. */
function repeatsText(tokens: ArrayLike<number>): boolean {
  for (let i = 0; i < tokens.length; i++) if (tokens[i] !== text[i % text.length]) return false;
  return true;
}

describe('a text that is longer than a string can be', () => {
  test('is read as one stream and as a document', async () => {
    const stream = await loadTextFile(path('long.txt'), new ByteTokenizer());
    expect(stream.length).toBe(size);
    expect(repeatsText(stream)).toBe(true);
    const source = await openTextDocuments([path('long.txt')], { tokenizer: new ByteTokenizer() });
    const document = await source.open(0);
    expect([source.count, document.length]).toEqual([1, size]);
    expect(repeatsText(await document.read(0, size))).toBe(true);
  });

  test('is refused by a tokenizer that must see it as a whole', async () => {
    const whole = new HuggingFaceTokenizer({ model: { type: 'BPE', vocab: { a: 0 }, merges: [], unk_token: 'a' } });
    await expect(loadTextFile(path('long.txt'), whole)).rejects.toThrow(/is longer than 536870888 characters, and this tokenizer must see a text as a whole.* Hint: make it several documents/);
  });

  test('is trained on and tokenized', async () => {
    const trained = await runCli('train', path('long.txt'), '--out', path('run'), ...tinyRun, '--validation-share', '0.000001', '--steps', '3');
    expect(trained.code, trained.stderr).toBe(0);
    const tokenized = await runCli('tokenize', path('long.txt'), '--out', path('shards'));
    expect(tokenized.stderr).toMatch(new RegExp(`1 document of ${size.toLocaleString('en-US')} tokens in 1 shard`));
  });
});
