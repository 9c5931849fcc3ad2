import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadTextFile, openTextDocuments } from '../../src/data/index.js';
import { pieceBytes } from '../../src/data/line-scan.js';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import type { Tokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { countReads } from '../support/counted-reads.js';
import { useFolder } from '../support/folders.js';

const folder = useFolder();
afterEach(() => void vi.restoreAllMocks());

function write(name: string, content: string | Uint8Array): string {
  writeFileSync(folder(name), content);
  return folder(name);
}

/** Bytes, but with the claim of a larger vocabulary; and with the text as a whole. */
function claiming(vocabularySize: number): Tokenizer {
  const bytes = new ByteTokenizer();
  return { vocabularySize, encode: (text) => bytes.encode(text), decode: (ids) => bytes.decode(ids), stream: () => bytes.stream() };
}

const utf16 = (text: string, swapped: boolean): Uint8Array => {
  const bytes = Buffer.from(text, 'utf16le');
  return swapped ? bytes.swap16() : bytes;
};

describe('loadTextFile', () => {
  it('gives the tokens in the smallest array that holds them', async () => {
    const path = write('a.txt', 'né\n');
    expect(await loadTextFile(path, new ByteTokenizer())).toEqual(Uint8Array.of(110, 195, 169, 10));
    expect(await loadTextFile(path, claiming(257))).toEqual(Uint16Array.of(110, 195, 169, 10));
    expect(await loadTextFile(path, claiming(65537))).toEqual(Int32Array.of(110, 195, 169, 10));
  });

  it('leaves out a byte-order mark, and no other U+FEFF', async () => {
    expect(await loadTextFile(write('bom.txt', '\uFEFFa\uFEFF'), new ByteTokenizer())).toEqual(Uint8Array.of(97, 0xef, 0xbb, 0xbf));
  });

  it('reads files in pieces that may end within a character', async () => {
    for (const shift of [0, 1, 2, 3]) {
      const content = Buffer.from(`${'x'.repeat(pieceBytes - shift)}😀é\n`);
      const path = write('pieces.txt', content);
      for (const tokenizer of [new ByteTokenizer(), claiming(256)]) {
        expect(content.equals(Uint8Array.from(await loadTextFile(path, tokenizer)))).toBe(true);
      }
    }
  });

  it('reads the beginning alone where that is enough', async () => {
    const path = write('long.txt', 'abc'.repeat(pieceBytes));
    const reads = countReads();
    expect(await loadTextFile(path, new ByteTokenizer(), { limit: 5 })).toEqual(Uint8Array.of(97, 98, 99, 97, 98));
    expect(reads.bytes).toBe(4096 + pieceBytes);
    expect(reads.opened).toBe(reads.closed);
    expect(await loadTextFile(path, claiming(256), { limit: 5 })).toEqual(Uint8Array.of(97, 98, 99, 97, 98));
    expect(await loadTextFile(path, new ByteTokenizer(), { limit: 10 * pieceBytes })).toHaveLength(3 * pieceBytes);
  });

  const far = pieceBytes + 5;
  it.each<[string, number[], number, number]>([
    // bytes, where they begin, and the offset and value of the first that is wrong
    ['a byte of Latin-1', [0xe9, 0x20], 0, 0xe9],
    ['one after a character', [0x41, 0xc3, 0xa9, 0xff], 3, 0xff],
    ['a character that is cut off', [0x41, 0xe2, 0x82], 1, 0xe2],
    ['a byte that continues nothing', [0x41, 0x42, 0xa9], 2, 0xa9],
    ['half of a surrogate pair', [0x41, 0xed, 0xa0, 0x80], 1, 0xed],
    ['a longer form than is needed', [0x41, 0x42, 0xc0, 0x80], 2, 0xc0],
  ])('says which byte is wrong: %s', async (_, bytes, offset, value) => {
    const hex = `0x${value.toString(16)}`;
    for (const before of [0, pieceBytes - 1, far]) {
      const path = write('bad.txt', Buffer.concat([Buffer.alloc(before, 'x'), Uint8Array.from(bytes)]));
      await expect(loadTextFile(path, new ByteTokenizer())).rejects.toThrow(`is not UTF-8 (byte ${before + offset} is ${hex}); expected a file of UTF-8 text. Hint: iconv`);
    }
  });

  it.each<[string, () => string, RegExp]>([
    ['a file that is absent', () => folder('absent'), /loadTextFile: .*absent is unreadable \(.*ENOENT/],
    ['a folder', () => folder(), /is unreadable \(EISDIR/],
    ['an empty file', () => write('c.txt', ''), /c\.txt is empty; expected a file of UTF-8 text/],
    ['a byte-order mark alone', () => write('d.txt', '\uFEFF'), /d\.txt is empty/],
  ])('refuses %s', async (_, path, message) => {
    const loading = loadTextFile(path(), new ByteTokenizer());
    await expect(loading).rejects.toThrow(ArgumentError);
    await expect(loading).rejects.toThrow(message);
  });
});

describe('files of another kind, by their first bytes', () => {
  it.each<[string, Uint8Array | string, RegExp]>([
    ['UTF-16 with its mark', utf16('\uFEFFOnce upon a time', false), /is UTF-16 .* Hint: iconv -f UTF-16 -t UTF-8/],
    ['UTF-16 with its mark, big-endian', utf16('\uFEFFOnce', true), /is UTF-16/],
    ['UTF-16 without a mark', utf16('Once upon a time, there was', false), /is UTF-16 \(every second byte is zero\).*UTF-16LE/],
    ['UTF-16 without a mark, big-endian', utf16('Once upon a time, there was', true), /UTF-16BE/],
    ['gzip', gzipSync('Once upon a time'), /is compressed with gzip.* Hint: gunzip/],
    ['zstd', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0), /is compressed with zstd/],
    ['zip', 'PK\u0003\u0004\u0014', /is a zip archive/],
    ['a Parquet file', 'PAR1\u0015\u0004', /is a Parquet file.* Hint: convert it to JSON lines/],
    ['a pointer of Git LFS', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n', /is a pointer of Git LFS.* Hint: git lfs pull/],
  ])('%s', async (_, content, message) => {
    for (const name of ['x.txt', 'x.jsonl']) {
      const path = write(name, content);
      await expect(loadTextFile(path, new ByteTokenizer())).rejects.toThrow(message);
      await expect(openTextDocuments([path], { tokenizer: new ByteTokenizer() })).rejects.toThrow(message);
    }
  });

  it.each(['BZh is how it begins', 'PAR1 is a name', 'PKs and %PDF-', '%PD', 'a\u0000b\u0000c', '\u0000'.repeat(64), 'Ünïcödé'])('%j is text', async (text) => {
    expect(Buffer.from(await loadTextFile(write('text.txt', text), new ByteTokenizer())).toString()).toBe(text);
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
