import { describe, expect, test } from 'vitest';
import { ByteTokenizer, HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { textSize, tokenStarts } from '../../src/tokenizer/token-bytes.js';

const letters = Array.from('abcdefghijklmnopqrstuvwxyz,.');
const vocabularyOf = (...tokens: readonly string[]) => Object.fromEntries([...letters, ...tokens].map((token, id) => [token, id]));
const blanks = {
  normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  decoder: { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
};
const merged = { type: 'BPE', vocab: vocabularyOf('▁', '<s>', 'th', 'the', '▁the'), merges: ['t h', 'th e', '▁ the'] };
const template = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '<s>', type_id: 0 } }],
  special_tokens: {},
};
const begin = { id: letters.length + 1, content: '<s>', special: true };

const tokenizers = {
  bytes: new ByteTokenizer(),
  pieces: new HuggingFaceTokenizer({ added_tokens: [], ...blanks, model: merged }),
  framed: new HuggingFaceTokenizer({ added_tokens: [begin], ...blanks, post_processor: template, model: merged }),
  parts: new HuggingFaceTokenizer({
    added_tokens: [],
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: vocabularyOf('Ġ', 'Ã', '©', 'ð', 'Ł', 'ĺ', 'Ģ'), merges: [] },
  }),
  lower: new HuggingFaceTokenizer({ added_tokens: [], normalizer: { type: 'Lowercase' }, decoder: { type: 'Fuse' }, model: { ...merged, merges: ['t h', 'th e'] } }),
};

describe('where tokens begin in their text', () => {
  test.each<{ tokenizer: keyof typeof tokenizers; text: string; starts: number[]; exact: boolean }>([
    { tokenizer: 'bytes', text: 'aé', starts: [0, 1, 2], exact: true },
    { tokenizer: 'pieces', text: 'the cat', starts: [0, 3, 4, 5, 6], exact: true },
    { tokenizer: 'pieces', text: 'o the the', starts: [0, 1, 5], exact: true },
    { tokenizer: 'framed', text: 'a the', starts: [0, 0, 1, 5], exact: true },
    // Two tokens of é, and four of a character of four bytes, begin where the character does.
    { tokenizer: 'parts', text: 'aéb', starts: [0, 1, 1, 3], exact: true },
    { tokenizer: 'parts', text: '😀a', starts: [0, 0, 0, 0, 4], exact: true },
    { tokenizer: 'lower', text: 'THEmTHE', starts: [0, 3, 4], exact: false },
  ])('$tokenizer: $text', ({ tokenizer, text, starts, exact }) => {
    const made = tokenStarts(tokenizers[tokenizer], text, tokenizers[tokenizer].encode(text));
    expect({ starts: [...made.starts], exact: made.exact }).toEqual({ starts, exact });
  });

  test.each<{ tokenizer: keyof typeof tokenizers; text: string; bytes: number; words: number }>([
    { tokenizer: 'bytes', text: 'aé', bytes: 3, words: 1 },
    { tokenizer: 'bytes', text: ' a  bc\n\nd\t', bytes: 10, words: 3 },
    { tokenizer: 'bytes', text: ' \r\n', bytes: 3, words: 0 },
    { tokenizer: 'pieces', text: 'the cat', bytes: 7, words: 2 },
    { tokenizer: 'parts', text: '😀a', bytes: 5, words: 1 },
  ])('$tokenizer: $text is of $bytes bytes and $words words', ({ tokenizer, text, bytes, words }) => {
    expect(textSize(tokenizers[tokenizer], tokenizers[tokenizer].encode(text))).toEqual({ bytes, words });
  });
});
