import { describe, expect, test } from 'vitest';
import { generateText, type GenerateTextOptions } from '../../src/generate/index.js';
import { ByteTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
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
    expect(seen).toBe(6);
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

  test('an empty prompt and an empty stop text are refused', async () => {
    await expect(pieces('')).rejects.toThrow(/ids is empty; expected at least one id/);
    await expect(pieces('a', { stop: ['x', ''] })).rejects.toThrow(/sequences\[1\] is empty; expected some text/);
  });
});
