import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { Random } from '../../src/util/random.js';
import { absenceNote, sharedFixture } from '../fixtures.js';

const names = ['gpt-neox-20b.tokenizer.json', 'gpt-neox-cases.inp', 'gpt-neox-cases.out'].map((name) => `tokenizer/${name}`);
const files = names.map(sharedFixture).filter((file) => file !== undefined);
const lacking = files.length < names.length;

const [definition = '{}', input = '', output = ''] = lacking ? [] : files.map((file) => readFileSync(file, 'utf8'));
const separator = '\n__ggml_vocab_test__\n';
const texts = input.split(separator).slice(0, -1);
const expectedIds = output.split('\n').slice(0, -1).map((line) => line.split(' ').filter(Boolean).map(Number));
const cases = texts.map((text, i): [string, number[]] => [text, expectedIds[i] ?? []]);

describe.skipIf(lacking)(`the tokenizer of GPT-NeoX${absenceNote(...names)}`, () => {
  let tokenizer: HuggingFaceTokenizer;
  beforeAll(() => {
    tokenizer = new HuggingFaceTokenizer(JSON.parse(definition));
  });

  /** The pieces that a stream gives for `ids`, the flushed rest last. */
  function streamed(ids: Iterable<number>): string[] {
    const stream = tokenizer.stream();
    return [...Array.from(ids, (id) => stream.push(id)), stream.flush()];
  }

  it('has all cases', () => {
    expect(texts).toHaveLength(46);
    expect(expectedIds).toHaveLength(46);
  });

  it('knows its size and the end of text', () => {
    expect(tokenizer.vocabularySize).toBe(50277);
    expect(tokenizer.endOfText).toBe(0);
    expect([...tokenizer.encode('a<|endoftext|>b')]).toEqual([66, 0, 67]);
  });

  it.each(cases)('encodes %j', (text, ids) => {
    expect([...tokenizer.encode(text)]).toEqual(ids);
  });

  it.each(cases)('decodes to %j, whole and streamed', (text) => {
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode(ids)).toBe(text.normalize('NFC'));
    const pieces = streamed(ids);
    expect(pieces.join('')).toBe(text.normalize('NFC'));
    // None of the cases holds U+FFFD or an unpaired surrogate, so neither may a piece.
    for (const piece of pieces) expect(piece).not.toMatch(/\uFFFD|\p{Surrogate}/u);
  });

  it('has the tokens that are names of object properties', () => {
    expect([...tokenizer.encode('constructor')]).toEqual([36073]);
    expect(tokenizer.decode([18834, 36073])).toBe('prototypeconstructor');
  });

  it('keeps spaces before punctuation', () => {
    expect(tokenizer.decode(tokenizer.encode("do n't , you ?"))).toBe("do n't , you ?");
  });

  it('gives a character as soon as its last token is there', () => {
    const ids = tokenizer.encode('🚀!');
    const pieces = streamed(ids);
    expect(pieces.at(-2)).toBe('!');
    expect(pieces.slice(0, -2).join('')).toBe('🚀');
    expect(pieces[0]).toBe('');
  });

  it('streams what decode gives, for random ids full of broken characters', () => {
    const random = new Random(7);
    for (let run = 0; run < 200; run++) {
      // Low ids are single bytes and so rarely whole characters; 50277 to 50279 are the padding of the models.
      const ids = Array.from({ length: 40 }, () => random.integer(run % 2 === 0 ? 50280 : 260));
      expect(streamed(ids).join('')).toBe(tokenizer.decode(ids));
    }
  });

  it('gives no text for ids of the padded vocabulary and refuses impossible ones', () => {
    expect(tokenizer.decode([12092, 50279])).toBe('Hello');
    expect(tokenizer.decode([])).toBe('');
    expect(() => tokenizer.decode([-1])).toThrow(/decode: id is -1; expected an integer of at least 0/);
    expect(() => tokenizer.stream().push(0.5)).toThrow(/id is 0.5/);
  });

  it('takes the end of text from the config', () => {
    const parsed = JSON.parse(definition) as unknown;
    expect(new HuggingFaceTokenizer(parsed, { eos_token: { content: '<|padding|>' } }).endOfText).toBe(1);
    expect(() => new HuggingFaceTokenizer(parsed, { eos_token: '</s>' })).toThrow(
      `tokenizer_config.json, key 'eos_token': the vocabulary has no token "</s>"`,
    );
  });
});
