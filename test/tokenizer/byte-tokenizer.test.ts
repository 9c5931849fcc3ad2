import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import type { Tokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';

const tokenizer: Tokenizer = new ByteTokenizer();
const texts = ['', 'plain', 'é', '我想在', '😶‍🌫️🦙', '\uFEFFmark', 'a\u0000b', 'line\nline\r\n'];

describe('ByteTokenizer', () => {
  it('gives the UTF-8 bytes', () => {
    expect([...tokenizer.encode('aé😁')]).toEqual([97, 195, 169, 240, 159, 152, 129]);
    expect(tokenizer.vocabularySize).toBe(256);
    expect(tokenizer.endOfText).toBeUndefined();
  });

  it.each(texts)('gives %j back', (text) => {
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  it.each(texts)('streams %j in whole characters', (text) => {
    const stream = tokenizer.stream();
    const pieces = Array.from(tokenizer.encode(text), (id) => stream.push(id));
    expect(pieces.join('')).toBe(text);
    for (const piece of pieces) expect(Array.from(piece).length).toBeLessThanOrEqual(1);
    expect(stream.flush()).toBe('');
  });

  it('shows bytes that are no character as U+FFFD, in the stream as in decode', () => {
    const ids = [0xff, 0x61, 0xe6, 0x88];
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id))).toEqual(['\uFFFD', 'a', '', '']);
    expect(stream.flush()).toBe('\uFFFD');
    expect(tokenizer.decode(ids)).toBe('\uFFFDa\uFFFD');
  });

  it.each([-1, 256, 1.5, NaN])('refuses the id %d', (id) => {
    expect(() => tokenizer.decode([id])).toThrow(ArgumentError);
    expect(() => tokenizer.stream().push(id)).toThrow(/decode: id is .*expected a byte, 0 to 255/);
  });
});
