import { describe, expect, test } from 'vitest';
import { generateText, type GenerateTextOptions } from '../../src/generate/index.js';
import { ByteTokenizer, HuggingFaceTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
import { useBackend } from '../support/backends.js';
import { modelThatSays } from '../support/scripted-model.js';

/** Characters of 1, 2, 3 and 4 bytes, none of which comes twice. */
const said = 'aé€😀z';
const rounds = said.repeat(3);
const bytesARound = 11;

describe('generating text', () => {
  const backend = useBackend('cpu');
  const tokenizer = new ByteTokenizer();

  async function pieces(prompt: string, options: GenerateTextOptions = {}, using: Tokenizer = tokenizer): Promise<string[]> {
    const model = modelThatSays(backend(), said);
    const { liveBuffers } = backend().statistics();
    const result: string[] = [];
    try {
      const all = { temperature: 0, maxTokens: 3 * bytesARound, ...options };
      for await (const piece of generateText(model, using, prompt, all)) result.push(piece);
      return result;
    } finally {
      expect(backend().statistics().liveBuffers).toBe(liveBuffers);
      model.dispose();
    }
  }

  test('streams whole characters as soon as they are whole', async () => {
    expect(await pieces('z')).toEqual(Array.from(rounds));
  });

  test('what is not a whole character at the end is replaced, once', async () => {
    expect(await pieces('z', { maxTokens: 8 })).toEqual(['a', 'é', '€', '\uFFFD']);
    expect(await pieces('z', { maxTokens: 2 })).toEqual(['a', '\uFFFD']);
    expect(await pieces('z', { maxTokens: 10 })).toEqual(['a', 'é', '€', '😀']);
  });

  test.each([
    { stop: ['z'], text: 'aé€😀' },
    { stop: ['€'], text: 'aé' },
    { stop: ['😀za'], text: 'aé€' },
    { stop: ['za'], text: 'aé€😀' },
    { stop: ['zaé€😀zaé'], text: 'aé€😀' },
    { stop: ['a'], text: '' },
    { stop: ['nowhere'], text: rounds },
    { stop: ['zaX', 'zaé€😀zaéX'], text: rounds },
    { stop: ['zX', '😀z'], text: 'aé€' },
    { stop: ['€😀', '😀'], text: 'aé' },
  ])('ends before $stop, of which nothing is shown', async ({ stop, text }) => {
    const shown = await pieces('z', { stop });
    expect(shown.join('')).toBe(text);
    expect(shown).not.toContain('');
    let sofar = '';
    for (const piece of shown) {
      sofar += piece;
      expect(text.startsWith(sofar), `'${sofar}' was shown`).toBe(true);
    }
  });

  test('what might have become a stop text is shown when the end comes first', async () => {
    expect((await pieces('z', { stop: ['😀za'], maxTokens: bytesARound })).join('')).toBe(said);
  });

  test('a stop text ends the work as well: no more tokens are generated', async () => {
    let seen = 0;
    const counting: Tokenizer = {
      vocabularySize: 256,
      encode: (text) => tokenizer.encode(text),
      decode: (ids) => tokenizer.decode(ids),
      stream: () => {
        const inner = tokenizer.stream();
        return {
          push: (id) => {
            seen++;
            return inner.push(id);
          },
          flush: () => inner.flush(),
        };
      },
    };
    await pieces('z', { stop: ['€'] }, counting);
    // The prompt, whose text the decoder goes on from, and six bytes.
    expect(seen).toBe(1 + 6);
  });

  test('the end-of-text token ends it and is not shown', async () => {
    const ending: Tokenizer = {
      vocabularySize: 256,
      endOfText: 'z'.charCodeAt(0),
      encode: (text) => tokenizer.encode(text),
      decode: (ids) => tokenizer.decode(ids),
      stream: () => tokenizer.stream(),
    };
    expect((await pieces('a', {}, ending)).join('')).toBe('é€😀');
  });

  test('an abort between pieces throws its reason and frees everything', async () => {
    const model = modelThatSays(backend(), said);
    const { liveBuffers } = backend().statistics();
    const controller = new AbortController();
    const shown: string[] = [];
    const loop = async () => {
      for await (const piece of generateText(model, tokenizer, 'z', { temperature: 0, signal: controller.signal })) {
        shown.push(piece);
        if (piece === '€') controller.abort('enough');
      }
    };
    await expect(loop()).rejects.toBe('enough');
    expect(shown).toEqual(['a', 'é', '€']);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  /** Bytes with a vocabulary that has names for some. */
  const marked = (marks: { beginOfText?: number; endOfText?: number }): Tokenizer => ({
    vocabularySize: 256,
    ...marks,
    encode: (text) => tokenizer.encode(text),
    decode: (ids) => tokenizer.decode(ids),
    stream: () => tokenizer.stream(),
  });
  const id = (character: string): number => character.charCodeAt(0);

  test.each<[string, Tokenizer, string]>([
    // The model says aé€😀z in a circle: what it says first tells after which token it began.
    ['the token that begins a text', marked({ beginOfText: id('z') }), 'aé'],
    ['the token that begins a text, though one ends it', marked({ beginOfText: id('a'), endOfText: id('z') }), 'é\uFFFD'],
    ['the token that ends the text before', marked({ endOfText: id('z') }), 'aé'],
  ])('an empty prompt begins with %s, which is not shown', async (_, using, text) => {
    expect((await pieces('', { maxTokens: 3 }, using)).join('')).toBe(text);
  });

  test('an empty prompt on bytes begins with a line end', async () => {
    const model = modelThatSays(backend(), '\nOnce');
    const shown: string[] = [];
    for await (const piece of generateText(model, tokenizer, '', { temperature: 0, maxTokens: 6 })) shown.push(piece);
    model.dispose();
    expect(shown.join('')).toBe('Once\nO');
  });

  test('an empty prompt begins with the token by which the model ends a text, where the tokenizer has none', async () => {
    const model = modelThatSays(backend(), 'Once\u0000', [0]);
    let shown = '';
    for await (const piece of generateText(model, tokenizer, '', { temperature: 0, maxTokens: 9 })) shown += piece;
    model.dispose();
    expect(shown).toBe('Once');
  });

  test('words after a prompt keep the blank between', async () => {
    // Ids: ▁a 4, ▁ 1, a 2, b 3. The decoder drops the blank before the first word of a text, which the prompt has.
    const words = new HuggingFaceTokenizer({
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      decoder: { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
      model: { type: 'BPE', vocab: { '</s>': 0, '▁': 1, a: 2, b: 3, '▁a': 4 }, merges: ['▁ a'] },
    });
    const model = modelThatSays(backend(), '\u0003\u0004\u0002');
    for (const [prompt, text] of [['ab', ' aab'], ['a', 'b aa'], [' a', 'ab a']] as const) {
      let shown = '';
      for await (const piece of generateText(model, words, prompt, { temperature: 0, maxTokens: 3 })) shown += piece;
      expect([prompt, shown]).toEqual([prompt, text]);
    }
    await expect(generateText(model, words, '').next()).rejects.toThrow(/the prompt is empty; expected some text\. Hint: the vocabulary has no token/);
    model.dispose();
  });

  test('an empty prompt with a state to go on from and an empty stop text are refused', async () => {
    const model = modelThatSays(backend(), said);
    const state = model.newState(1);
    await expect(generateText(model, tokenizer, '', { state }).next()).rejects.toThrow(/ids is empty; expected at least one id/);
    state.dispose();
    model.dispose();
    await expect(pieces('a', { stop: ['x', ''] })).rejects.toThrow(/sequences\[1\] is empty; expected some text/);
  });
});
