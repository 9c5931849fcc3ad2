import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ByteTokenizer, HuggingFaceTokenizer, loadTokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError, CheckpointError } from '../../src/util/errors.js';

/** A SentencePiece-like vocabulary: words carry their space, unknown characters fall back to bytes. */
const sentencePiece = {
  added_tokens: [{ id: 0, content: '</s>', special: true }],
  normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE',
    byte_fallback: true,
    vocab: { '</s>': 0, '▁': 1, a: 2, b: 3, '▁a': 4, '<0xC3>': 5, '<0xA9>': 6 },
    merges: ['▁ a'],
  },
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'elapid-tokenizer-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, content: unknown): void {
  writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
}

describe('loadTokenizer', () => {
  it('takes tokenizer.json and its config', async () => {
    write('tokenizer.json', sentencePiece);
    write('tokenizer_config.json', { eos_token: '</s>' });
    const tokenizer = await loadTokenizer(folder, 8);
    expect(tokenizer).toBeInstanceOf(HuggingFaceTokenizer);
    expect(tokenizer.vocabularySize).toBe(7);
    expect(tokenizer.endOfText).toBe(0);
  });

  it('streams a decoder that treats the first id in its own way', async () => {
    write('tokenizer.json', sentencePiece);
    const tokenizer = await loadTokenizer(folder, 7);
    expect(tokenizer.endOfText).toBeUndefined();
    const ids = tokenizer.encode(' a aéb aé');
    expect([...ids]).toEqual([4, 4, 5, 6, 3, 4, 5, 6]);
    const stream = tokenizer.stream();
    expect(Array.from(ids, (id) => stream.push(id))).toEqual(['a', ' a', '', 'é', 'b', ' a', '', 'é']);
    expect(stream.flush()).toBe('');
    expect(tokenizer.decode(ids)).toBe('a aéb aé');
  });

  it('refuses text that the vocabulary cannot spell', async () => {
    write('tokenizer.json', { ...sentencePiece, model: { ...sentencePiece.model, byte_fallback: false, unk_token: '<unk>' } });
    const tokenizer = await loadTokenizer(folder, 7);
    expect(() => tokenizer.encode('aé')).toThrow(ArgumentError);
  });

  it('takes bytes where there is no file and the model has 256 ids', async () => {
    expect(await loadTokenizer(folder, 256)).toBeInstanceOf(ByteTokenizer);
    await expect(loadTokenizer(folder, 50280)).rejects.toThrow(/no tokenizer.json, and the model has 50280 ids.*Hint: copy/);
  });

  it('where there is no model yet, any tokenizer.json will do, and nothing else', async () => {
    await expect(loadTokenizer(folder)).rejects.toThrow(/: there is no tokenizer\.json in it\. Hint: name a folder with the tokenizer\.json of a model, or none/);
    await expect(loadTokenizer(join(folder, 'absent'))).rejects.toThrow(/absent: no such folder\. Hint: /);
    write('tokenizer.json', sentencePiece);
    await expect(loadTokenizer(join(folder, 'tokenizer.json'))).rejects.toThrow(/is a file; expected a folder with a tokenizer\.json/);
    expect((await loadTokenizer(folder)).vocabularySize).toBe(7);
  });

  it('refuses a tokenizer with more ids than the model', async () => {
    write('tokenizer.json', sentencePiece);
    await expect(loadTokenizer(folder, 6)).rejects.toThrow(/the tokenizer has 7 ids, but the model only 6\. Hint: /);
  });

  it.each([
    ['not JSON', '{"model":', /tokenizer.json, byte 0: the text is not valid JSON/],
    ['a pointer of Git LFS', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n', /tokenizer\.json: .*pointer of Git LFS.* Hint: run `git lfs install`, then `git lfs pull`/],
    ['not an object', '[]', /tokenizer.json/],
    ['no model', {}, /tokenizer.json, key 'model'/],
    ['an unknown model', { model: { type: 'Magic' } }, /key 'model.type': is "Magic"; expected "BPE"/],
    ['a vocabulary with a negative id', { model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, /key 'model.vocab': is {"a":-1}; expected tokens with ids, integers from 0/],
    ['an added token with a huge id', { ...sentencePiece, added_tokens: [{ id: 2 ** 31, content: 'x' }] }, /key 'added_tokens.0.id'/],
    ['an unknown decoder', { ...sentencePiece, decoder: { type: 'Magic' } }, /the tokenizer cannot be built: .*Magic/],
  ])('refuses %s', async (_, content, message) => {
    write('tokenizer.json', content);
    const loading = loadTokenizer(folder, 256);
    await expect(loading).rejects.toThrow(CheckpointError);
    await expect(loading).rejects.toThrow(message);
  });

  it('refuses a config that is damaged', async () => {
    write('tokenizer.json', sentencePiece);
    write('tokenizer_config.json', { eos_token: 3 });
    await expect(loadTokenizer(folder, 8)).rejects.toThrow(/tokenizer_config.json, key 'eos_token'/);
  });
});
