import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTextFile } from '../../src/data/index.js';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import type { Tokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'elapid-text-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** Bytes, but with the claim of a larger vocabulary. */
function claiming(vocabularySize: number): Tokenizer {
  const bytes = new ByteTokenizer();
  return { vocabularySize, encode: (text) => bytes.encode(text), decode: (ids) => bytes.decode(ids), stream: () => bytes.stream() };
}

describe('loadTextFile', () => {
  it('gives the tokens in the smallest array that holds them', async () => {
    const path = write('a.txt', 'né\n');
    expect(await loadTextFile(path, new ByteTokenizer())).toEqual(Uint8Array.of(110, 195, 169, 10));
    expect(await loadTextFile(path, claiming(257))).toEqual(Uint16Array.of(110, 195, 169, 10));
    expect(await loadTextFile(path, claiming(65537))).toEqual(Int32Array.of(110, 195, 169, 10));
  });

  it.each<[string, () => string, RegExp]>([
    ['a file that is absent', () => join(folder, 'absent'), /loadTextFile: .*absent is unreadable \(.*ENOENT/],
    ['a folder', () => folder, /is unreadable/],
    ['bytes that are not UTF-8', () => write('b.txt', Uint8Array.of(65, 0xff)), /b\.txt is not UTF-8.*expected a file of UTF-8 text/],
    ['an empty file', () => write('c.txt', ''), /c\.txt is empty; expected a file of UTF-8 text/],
  ])('refuses %s', async (_, path, message) => {
    const loading = loadTextFile(path(), new ByteTokenizer());
    await expect(loading).rejects.toThrow(ArgumentError);
    await expect(loading).rejects.toThrow(message);
  });
});

describe('the text that comes with the package', () => {
  it('is plain ASCII with Unix newlines', async () => {
    const path = fileURLToPath(new URL('../../data/pride-and-prejudice.txt', import.meta.url));
    const tokens = await loadTextFile(path, new ByteTokenizer());
    expect(tokens.length).toBe(684_768);
    expect([...new Set(tokens)].every((byte) => byte === 10 || (byte >= 32 && byte < 127))).toBe(true);
    expect(readFileSync(path, 'utf8')).toMatch(/^PRIDE AND PREJUDICE\n\nBy Jane Austen\n/);
  });
});
