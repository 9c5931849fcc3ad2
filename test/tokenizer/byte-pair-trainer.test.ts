import { describe, expect, test } from 'vitest';
import { BytePairTrainer, ByteTokenizer, HuggingFaceTokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';
import { trainingText } from '../support/cli.js';

interface Definition {
  readonly model: { readonly vocab: Readonly<Record<string, number>>; readonly merges: readonly string[] };
}

async function trained(texts: readonly string[], vocabularySize: number): Promise<Definition> {
  const trainer = new BytePairTrainer();
  for (const text of texts) {
    trainer.add(text);
    trainer.endText();
  }
  return (await trainer.train({ vocabularySize })) as unknown as Definition;
}

/** The same by counting everything again for each merge, on a text of ASCII letters and blanks. */
function mergesByCounting(text: string, count: number): string[] {
  const words = (text.match(/ ?[a-z]+|\s+(?!\S)|\s+/g) ?? []).map((word) => Array.from(word.replaceAll(' ', 'Ġ')));
  const ids = new Map(Array.from({ length: 94 }, (_, i) => [String.fromCharCode(33 + i), i]));
  // Of the characters that stand for other bytes only the blank's comes up.
  ids.set('Ġ', 220);
  const merges: string[] = [];
  for (let next = 256; next < 256 + count; next++) {
    const counts = new Map<string, number>();
    for (const word of words) for (let i = 1; i < word.length; i++) counts.set(`${word[i - 1] ?? ''} ${word[i] ?? ''}`, (counts.get(`${word[i - 1] ?? ''} ${word[i] ?? ''}`) ?? 0) + 1);
    const order = (pair: string) => pair.split(' ').map((token) => ids.get(token) ?? -1);
    const [best] = [...counts].sort(([a, n], [b, m]) => m - n || (order(a)[0] ?? 0) - (order(b)[0] ?? 0) || (order(a)[1] ?? 0) - (order(b)[1] ?? 0));
    if (best === undefined || best[1] < 2) break;
    merges.push(best[0]);
    const [left = '', right = ''] = best[0].split(' ');
    if (ids.has(left + right)) next--;
    else ids.set(left + right, next);
    for (const word of words) for (let i = 0; i + 1 < word.length; i++) if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
  }
  return merges;
}

const random = new Random(4);
const letters = (alphabet: string, length: number) => Array.from({ length }, () => alphabet[random.integer(alphabet.length)]).join('');

describe('learning byte pairs', () => {
  test('the merges of the textbook: hug, pug, pun, bun, hugs', async () => {
    const text = [...Array<string>(10).fill('hug'), ...Array<string>(5).fill('pug'), ...Array<string>(12).fill('pun'), ...Array<string>(4).fill('bun'), ...Array<string>(5).fill('hugs')].join('\n');
    const { model } = await trained([text], 259);
    expect(model.merges).toEqual(['u g', 'u n', 'h ug']);
    expect([model.vocab['ug'], model.vocab['un'], model.vocab['hug']]).toEqual([256, 257, 258]);
  });

  test.each([
    ['English', trainingText.toLowerCase().replace(/[^a-z]+/g, ' ').slice(0, 3000), 150],
    ['runs of one letter', 'aaaa aaaaa aaaaaaaa aaa aabaa baab aaaabaaaa aaaaaaa', 30],
    ['two letters', letters('ab ', 600), 80],
    ['five letters, in long words', letters('abcde', 400), 100],
    ['the same token by two ways', 'abc abc abc xbc xbc xbc abx abx abx abcd abcd bcd', 40],
  ])('as counting everything again gives them: %s', async (_, text, count) => {
    const { model } = await trained([text], 256 + count);
    expect(model.merges).toEqual(mergesByCounting(text, count));
  });

  test('a text may come in pieces, and texts do not reach into one another', async () => {
    const text = `${trainingText}\n${letters('xyzzy \n', 70_000)}`;
    const whole = await trained([text], 400);
    const trainer = new BytePairTrainer();
    for (let at = 0; at < text.length; at += 777) trainer.add(text.slice(at, at + 777));
    expect(await trainer.train({ vocabularySize: 400 })).toEqual(whole);
    expect((await trained(['qq', 'zq', 'qz'], 300)).model.merges).toEqual([]);
  });

  const texts = { English: trainingText, 'many scripts': 'naïve café — 東京 東京タワー 🙂🙂 Ωμέγα\r\n\t  e\u0301 constructor __proto__ 12 12 '.repeat(20) };
  test.each(Object.entries(texts))('the tokenizer.json gives the text back, and its ids are bytes on their own: %s', async (_, text) => {
    const definition = await trained([text], 500);
    const tokenizer = new HuggingFaceTokenizer(JSON.parse(JSON.stringify(definition)));
    const table = tokenizer.tokenBytes?.() ?? expect.fail('no bytes');
    for (const piece of [text, `${text.slice(5, 300)} unseen: \u{10ffff}\u0000þ`]) {
      const ids = tokenizer.encode(piece);
      expect(tokenizer.decode(ids)).toBe(piece);
      const bytes = [...ids].flatMap((id) => [...(table[id] ?? [])]);
      expect(bytes).toEqual([...new ByteTokenizer().encode(piece)]);
    }
    expect(tokenizer.encode(text).length).toBeLessThan(0.6 * new TextEncoder().encode(text).length);
    expect(tokenizer.encodeStream).toBeDefined();
    expect(new Set(table.map((bytes) => String(bytes))).size).toBe(tokenizer.vocabularySize);
  });

  test('a text that has no more pairs that occur twice gives fewer ids', async () => {
    const { model } = await trained(['abab'], 1000);
    expect(model.merges).toEqual(['a b']);
    expect(Object.keys(model.vocab)).toHaveLength(257);
  });

  test.each([256, 0, -1, 300.5, NaN, 1_000_001])('a vocabulary of %d is refused', async (vocabularySize) => {
    const failed = trained(['a b'], vocabularySize);
    await expect(failed).rejects.toBeInstanceOf(ArgumentError);
    await expect(failed).rejects.toThrow(`vocabularySize is ${vocabularySize}; expected an integer from 257 (all bytes and one merge) to 1000000`);
  });

  test('no text is refused; an abort ends the work', async () => {
    await expect(trained([''], 300)).rejects.toThrow('the text is empty; expected some text');
    const trainer = new BytePairTrainer();
    trainer.add(letters('abcdefghij', 300_000));
    const controller = new AbortController();
    const seen: number[] = [];
    const stopped = trainer.train({
      ...{ vocabularySize: 100_000, signal: controller.signal },
      onProgress: (ids) => {
        seen.push(ids);
        controller.abort('enough');
      },
    });
    await expect(stopped).rejects.toBe('enough');
    expect(seen).toHaveLength(1);
  });
});

describe('bytes of ids', () => {
  test('special tokens are no text, other added ones are written as they are', () => {
    const tokenizer = new HuggingFaceTokenizer({
      added_tokens: [{ id: 2, content: '<|endoftext|>', special: true }, { id: 4, content: '  é', special: false }],
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab: { 'Ġa': 0, 'Ã©': 1, '<|endoftext|>': 2, '東': 5 }, merges: [] },
    });
    expect(tokenizer.tokenBytes?.()).toEqual([Uint8Array.of(32, 97), Uint8Array.of(0xc3, 0xa9), undefined, undefined, Uint8Array.of(32, 32, 0xc3, 0xa9), undefined]);
  });

  test.each([{ type: 'WordPiece' }, { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] }, null])('a decoder %j has none', (decoder) => {
    const tokenizer = new HuggingFaceTokenizer({ decoder, model: { type: 'BPE', vocab: { a: 0 }, merges: [] } });
    expect(tokenizer.tokenBytes).toBeUndefined();
  });
});
