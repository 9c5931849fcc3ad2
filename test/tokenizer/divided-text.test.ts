import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { HuggingFaceTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
import { Random } from '../../src/util/random.js';
import { absenceNote, sharedFixture } from '../fixtures.js';

/** The ids of a text that comes in pieces of some thousand characters. */
function inPieces(tokenizer: Tokenizer, text: string, seed: number): number[] {
  const random = new Random(seed, 0);
  const stream = tokenizer.encodeStream?.();
  if (stream === undefined) throw new Error('the tokenizer cannot encode in pieces');
  const ids: number[] = [];
  for (let at = 0; at < text.length; ) {
    let end = Math.min(text.length, at + 1 + random.integer(40_000));
    if (/[\uD800-\uDBFF]/.test(text[end - 1] ?? '')) end++;
    for (const id of stream.push(text.slice(at, end))) ids.push(id);
    at = end;
  }
  for (const id of stream.flush()) ids.push(id);
  return ids;
}

/** How many ids are the same from the beginning, and how many there are. */
function agreement(ids: readonly number[], expected: Int32Array): [same: number, all: number] {
  const different = expected.findIndex((id, i) => id !== ids[i]);
  return [different < 0 ? expected.length : different, ids.length];
}

/** Text of all kinds of words, blanks and marks, added tokens among them. */
function variousText(length: number, added: readonly string[]): string {
  const random = new Random(7, 0);
  const parts = ['the', 'Of', "don't", 'naïve', 'e\u0301a\u030A', 'ΣΟΦΟΣ', '日本語', '😀', '12345', '...', '“?”', '\u00A0', '\uFEFF', ...added];
  const blanks = [' ', ' ', ' ', '', '  ', '     ', '\n', '\r\n', '\n\n', '\t', '\u2003', ' \n '];
  const pick = (from: readonly string[]) => from[random.integer(from.length)] ?? '';
  let text = '';
  while (text.length < length) text += pick(parts) + pick(blanks);
  return text;
}

const letters = Object.fromEntries(Array.from({ length: 95 }, (_, i) => [String.fromCharCode(32 + i), i] as const));
const bpe = { type: 'BPE', vocab: { ...letters, Ġ: 95, Ċ: 96, th: 97, the: 98, Ġthe: 99, '...': 100 }, merges: ['t h', 'th e', 'Ġ the'], unk_token: '.', fuse_unk: false };
const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
const template = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
  special_tokens: {},
};
const special = [
  { id: 101, content: '<s>', special: true },
  { id: 102, content: '</s>', special: true },
  { id: 103, content: '   ', special: false, normalized: true },
];

describe('a text in pieces has the ids of the whole', () => {
  test.each<[string, object]>([
    ['bytes and GPT-2’s pattern', { model: bpe, pre_tokenizer: bytes, normalizer: { type: 'NFC' } }],
    ['the same with tokens before and after a text', { model: bpe, pre_tokenizer: bytes, post_processor: template }],
    [
      'kinds of characters first, then bytes, then digits',
      { model: bpe, pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Punctuation' }, bytes, { type: 'Digits', individual_digits: true }] } },
    ],
    ['words between blanks', { model: { type: 'WordLevel', vocab: { ...letters, the: 95 }, unk_token: '?' }, pre_tokenizer: { type: 'WhitespaceSplit' } }],
    ['words and marks', { model: { type: 'WordLevel', vocab: { ...letters, the: 95 }, unk_token: '?' }, pre_tokenizer: { type: 'Whitespace' }, normalizer: { type: 'Lowercase' } }],
    [
      'pieces of words',
      { model: { type: 'WordPiece', vocab: { ...letters, the: 95, '##e': 96 }, unk_token: '?', continuing_subword_prefix: '##' }, pre_tokenizer: { type: 'BertPreTokenizer' }, normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'Lowercase' }] } },
    ],
  ])('%s', (_, definition) => {
    const tokenizer = new HuggingFaceTokenizer({ ...definition, added_tokens: special });
    const text = variousText(120_000, ['<s>', '</s>', '   ']);
    const whole = tokenizer.encode(text);
    expect(agreement(inPieces(tokenizer, text, 1), whole)).toEqual([whole.length, whole.length]);
    for (const short of ['', 'a', ' ', '\n', 'the  the', '<s>']) expect(inPieces(tokenizer, short, 1)).toEqual([...tokenizer.encode(short)]);
  });

  const neox = 'tokenizer/gpt-neox-20b.tokenizer.json';
  const file = sharedFixture(neox);
  test.skipIf(file === undefined)(`GPT-NeoX’s, of a novel and of all kinds of text${absenceNote(neox)}`, () => {
    const tokenizer = new HuggingFaceTokenizer(JSON.parse(readFileSync(file ?? '', 'utf8')));
    const novel = readFileSync(fileURLToPath(new URL('../../data/pride-and-prejudice.txt', import.meta.url)), 'utf8');
    for (const text of [novel.slice(0, 100_000), variousText(80_000, ['<|endoftext|>', '        '])]) {
      const whole = tokenizer.encode(text);
      expect(agreement(inPieces(tokenizer, text, 3), whole)).toEqual([whole.length, whole.length]);
    }
  });

  test.each<[string, object]>([
    ['no pre-tokenizer', { model: bpe }],
    ['a mark before the text', { model: bpe, pre_tokenizer: bytes, normalizer: { type: 'Prepend', prepend: '▁' } }],
    ['a space before the text', { model: bpe, pre_tokenizer: { ...bytes, add_prefix_space: true } }],
    ['a pattern of its own', { model: bpe, pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex: '\\w+\\s' }, behavior: 'Isolated', invert: false }, bytes] } }],
    ['bytes without a pattern', { model: bpe, pre_tokenizer: { ...bytes, use_regex: false } }],
    ['unknown pieces that join', { model: { ...bpe, fuse_unk: true }, pre_tokenizer: bytes }],
    ['a token of two words', { model: bpe, pre_tokenizer: bytes, added_tokens: [{ id: 101, content: 'Elizabeth Bennet' }] }],
    ['a token that takes the blanks around it', { model: bpe, pre_tokenizer: bytes, added_tokens: [{ id: 101, content: '<mask>', lstrip: true }] }],
  ])('cannot come in pieces: %s', (_, definition) => {
    expect(new HuggingFaceTokenizer(definition).encodeStream).toBeUndefined();
  });
});
