import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { openTextDocuments, type DocumentSource } from '../../src/data/index.js';
import { pieceBytes } from '../../src/data/line-scan.js';
import { ByteTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError, CheckpointError } from '../../src/util/errors.js';
import { countReads } from '../support/counted-reads.js';
import { useFolder } from '../support/folders.js';

const folder = useFolder();
const tokenizer = new ByteTokenizer();
afterEach(() => void vi.restoreAllMocks());

function write(name: string, content: string | Uint8Array): string {
  writeFileSync(folder(name), content);
  return folder(name);
}

async function texts(source: DocumentSource): Promise<string[]> {
  const read = [];
  for (let i = 0; i < source.count; i++) {
    const document = await source.open(i);
    read.push(tokenizer.decode(await document.read(0, document.length)));
  }
  return read;
}

describe('openTextDocuments', () => {
  const separator = '<|end|>';

  test.each([
    ['between documents', 'one\ntwo\n<|end|>\nthree\n', ['one\ntwo\n', 'three\n']],
    ['at both ends, doubled', '<|end|>\none\n<|end|>\n<|end|>\ntwo\n<|end|>\n', ['one\n', 'two\n']],
    ['without a last newline', 'one\n<|end|>', ['one\n']],
    ['with Windows line ends', 'one\r\n<|end|>\r\ntwo', ['one\r\n', 'two']],
    ['followed by blanks', 'one\n<|end|> \ntwo\n<|end|>\t  \r\nthree\n<|end|>  ', ['one\n', 'two\n', 'three\n']],
    ['after a byte-order mark', '\uFEFF<|end|>\none\n<|end|>\ntwo', ['one\n', 'two']],
    ['followed by more than blanks', 'one\n<|end|> x\n <|end|>\n', ['one\n<|end|> x\n <|end|>\n']],
    ['and no byte-order mark in the text, but a U+FEFF that is', '\uFEFFone\n<|end|>\n\uFEFFtwo', ['one\n', '\uFEFFtwo']],
    ['not within a line', 'a <|end|>\n<|end|>!\n<|end\n|>\n', ['a <|end|>\n<|end|>!\n<|end\n|>\n']],
  ])('separators: %s', async (_, content, expected) => {
    expect(await texts(await openTextDocuments([write('a.txt', content)], { tokenizer, separator }))).toEqual(expected);
  });

  test('blanks at the end of the separator that was asked for count for nothing', async () => {
    const source = await openTextDocuments([write('a.txt', 'one\n<|end|>\ntwo')], { tokenizer, separator: '<|end|> ' });
    expect(await texts(source)).toEqual(['one\n', 'two']);
  });

  test.each<[string, string, string[]]>([
    ['a byte-order mark', '\uFEFF{"text":"one"}\n', ['one']],
    ['lines of blanks', '  \n{"text":"one"}\n\t\r\n \n{"text":"two"}', ['one', 'two']],
    ['a last line without its end', '{"text":"one"}\n{"text":"two"}', ['one', 'two']],
    ['blanks around the object', ' {"text":"one"}  \r\n', ['one']],
    ['a text that begins with U+FEFF', '{"text":"\uFEFFone"}\n', ['\uFEFFone']],
  ])('JSON lines with %s', async (_, content, expected) => {
    expect(await texts(await openTextDocuments([write('b.jsonl', content)], { tokenizer }))).toEqual(expected);
  });

  test('several files: a document each, in their order', async () => {
    const paths = [write('1.txt', 'né'), write('2.txt', ''), write('3.txt', 'b\nc')];
    expect(await texts(await openTextDocuments(paths, { tokenizer }))).toEqual(['né', 'b\nc']);
  });

  test('JSON lines, next to plain text', async () => {
    const json = write('a.jsonl', '{"text":"one\\n"}\n\n{"text":"","n":1}\r\n\r\n{"text":"zwei ✓"}');
    expect(await texts(await openTextDocuments([json, write('b.txt', 'plain')], { tokenizer }))).toEqual(['one\n', '', 'zwei ✓', 'plain']);
    const other = write('c.ndjson', '{"body":"x"}\n');
    expect(await texts(await openTextDocuments([other], { tokenizer, textField: 'body' }))).toEqual(['x']);
  });

  test('a tokenizer’s end of text ends each document', async () => {
    const ending: Tokenizer = { vocabularySize: 256, endOfText: 0, encode: (t) => tokenizer.encode(t), decode: (i) => tokenizer.decode(i), stream: () => tokenizer.stream() };
    const source = await openTextDocuments([write('a.jsonl', '{"text":"a"}\n{"text":"b\\u0000"}\n{"text":""}\n')], { tokenizer: ending });
    const tokens = [];
    for (let i = 0; i < 3; i++) tokens.push(Array.from(await (await source.open(i)).read(0, (await source.open(i)).length)));
    expect(tokens).toEqual([[97, 0], [98, 0], []]);
  });

  test('separators that lie across the pieces in which a file is read', async () => {
    for (const shift of [-9, -8, -7, -4, -1, 0, 1]) {
      const first = `${'x'.repeat(pieceBytes + shift - 1)}\n`;
      const source = await openTextDocuments([write('long.txt', `${first}${separator}\nrest`)], { tokenizer, separator });
      expect(source.count).toBe(2);
      expect((await source.open(0)).length).toBe(first.length);
      expect((await texts(source))[1]).toBe('rest');
    }
  });

  test('goes through files once, in pieces, and then reads only the documents asked for', async () => {
    const line = `${JSON.stringify({ text: 'y'.repeat(999) })}\n`;
    const path = write('large.jsonl', line.repeat(4000));
    const reads = countReads();
    const source = await openTextDocuments([path], { tokenizer });
    expect(source.count).toBe(4000);
    // Its beginning once more, to see that it is text.
    expect(reads.bytes).toBe(line.length * 4000 + 4096);
    expect(reads.longest).toBe(pieceBytes);
    const before = reads.bytes;
    for (const index of [3999, 7, 2000]) expect((await source.open(index)).length).toBe(999);
    expect(reads.bytes - before).toBe(3 * (line.length - 1));
    expect(reads.opened).toBe(reads.closed);
  });

  test('the fingerprint is that of the contents', async () => {
    const of = async (content: string) => (await openTextDocuments([write('f.jsonl', content)], { tokenizer })).fingerprint;
    const [a, b, again] = [await of('{"text":"a"}\n'), await of('{"text":"b"}\n'), await of('{"text":"a"}\n')];
    expect(a).toBe(again);
    expect(a).not.toBe(b);
  });

  test.each([
    ['text that is no JSON', '{"text":"a"}\n\n{"text":\n', /bad\.jsonl, byte 14: line 3 is not JSON \(/],
    ['a missing key', '{"text":"a"}\n{"txt":"b"}\n', /bad\.jsonl, byte 13: line 2 has no text under the key 'text'\. Hint: --text-field names the key; there is text under txt$/],
    ['a value that is no text', '{"text":1}\n', /line 1 has no text under the key 'text'\. Hint: none of its keys \(text\) holds text/],
    ['several keys', '{"id":1,"body":"a","title":"b"}\n', /Hint: --text-field names the key; there is text under body, title$/],
    ['a line that is no object', 'null\n', /line 1 has no text .* Hint: every line of \.jsonl is a JSON object/],
    ['a line that is a list', '["a"]\n', /line 1 has no text .* Hint: every line of \.jsonl is a JSON object/],
    ['bytes that are not UTF-8', Uint8Array.of(10, 34, 0xff, 34, 10), /byte 2: line 2 is not UTF-8 \(byte 2 is 0xff\)/],
  ])('JSON lines: %s is refused by line and byte', async (_, content, message) => {
    const source = await openTextDocuments([write('bad.jsonl', content)], { tokenizer });
    const reading = texts(source);
    await expect(reading).rejects.toThrow(CheckpointError);
    await expect(reading).rejects.toThrow(message);
  });

  test('plain text that is not UTF-8 is refused by line and byte', async () => {
    const bytes = new TextEncoder().encode('one\n<|end|>\ntw\nzwei');
    bytes[13] = 0xe9;
    const source = await openTextDocuments([write('latin.txt', bytes)], { tokenizer, separator });
    expect(await (await source.open(0)).read(0, 4)).toHaveLength(4);
    await expect(source.open(1)).rejects.toThrow(/latin\.txt, byte 13: line 3 begins a document that is not UTF-8 \(byte 13 is 0xe9\)/);
  });

  test('what cannot be opened is refused at once', async () => {
    await expect(openTextDocuments([folder('absent')], { tokenizer })).rejects.toThrow(/absent is unreadable \(.*ENOENT/);
    await expect(openTextDocuments([write('none.jsonl', '\n\n')], { tokenizer })).rejects.toThrow(/none\.jsonl is empty; expected at least one document/);
    for (const wrong of ['', '  ', 'a\nb']) {
      await expect(openTextDocuments([write('a.txt', 'a')], { tokenizer, separator: wrong })).rejects.toThrow(ArgumentError);
    }
  });

  test('a file that has shrunk since is refused', async () => {
    const source = await openTextDocuments([write('s.jsonl', '{"text":"a"}\n{"text":"b"}\n')], { tokenizer });
    write('s.jsonl', '{"text":"a"}\n');
    await expect(source.open(1)).rejects.toThrow(/the file has changed/);
  });
});
