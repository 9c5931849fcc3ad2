import { describe, expect, it } from 'vitest';
import { HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';

const vocab = { '[UNK]': 0, the: 1, cat: 2, sat: 3, '.': 4, '<eos>': 5 };
const model = { type: 'WordLevel', vocab, unk_token: '[UNK]' };
const added = [{ id: 5, content: '<eos>', special: true }];

describe('a tokenizer of whole words', () => {
  it.each<[string, object, string, number[], string]>([
    ['words and marks', { model, pre_tokenizer: { type: 'Whitespace' } }, 'the cat sat.', [1, 2, 3, 4], 'the cat sat .'],
    ['words between blanks', { model, pre_tokenizer: { type: 'WhitespaceSplit' } }, 'the  cat\nsat.', [1, 2, 0], 'the cat [UNK]'],
    ['a text with the token that ends one', { model, added_tokens: added, pre_tokenizer: { type: 'Whitespace' } }, 'the cat<eos>the', [1, 2, 5, 1], 'the cat <eos> the'],
    ['a file of an early version, which does not name the kind of model', { model: { vocab, unk_token: '[UNK]' }, pre_tokenizer: { type: 'Whitespace' } }, 'a cat', [0, 2], '[UNK] cat'],
  ])('%s', (_, definition, text, ids, decoded) => {
    const tokenizer = new HuggingFaceTokenizer(definition, { eos_token: '<eos>' });
    expect(tokenizer.vocabularySize).toBe(6);
    expect(tokenizer.endOfText).toBe(5);
    expect([...tokenizer.encode(text)]).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(decoded);
  });

  it('refuses a word that it lacks where it has no unknown token', () => {
    const tokenizer = new HuggingFaceTokenizer({ model: { ...model, unk_token: null }, pre_tokenizer: { type: 'Whitespace' } });
    expect(() => tokenizer.encode('the dog')).toThrow(ArgumentError);
    expect(() => tokenizer.encode('the dog')).toThrow(/"dog"; expected text made of tokens of the vocabulary/);
  });
});

describe('the token that begins a text', () => {
  it.each<[string, object, number | undefined]>([
    ['by its name', { bos_token: '[UNK]' }, 0],
    ['as an object', { bos_token: { content: 'the' } }, 1],
    ['none', { bos_token: null }, undefined],
    ['a name that the vocabulary lacks', { bos_token: '<s>' }, undefined],
  ])('%s', (_, config, id) => {
    expect(new HuggingFaceTokenizer({ model }, config).beginOfText).toBe(id);
  });
});
