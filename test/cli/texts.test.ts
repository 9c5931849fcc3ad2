import { mkdirSync, openSync, closeSync, ftruncateSync, writeFileSync, writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadModel, saveModel, LanguageModel, mambaConfig, mambaFamily } from '../../src/models/index.js';
import { evaluateSequence } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';
import { tinyModel, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();
const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
const config = mambaConfig({ vocabularySize: 256, dModel: 16, layers: 1, dState: 4 });

beforeAll(async () => {
  const model = LanguageModel.initial(mambaFamily, config, backend(), 1);
  await saveModel(model, path('model'));
  model.dispose();
});

/** Bits a byte of documents on bytes, each from its beginning. */
async function expected(documents: readonly string[]): Promise<{ loss: number; tokens: number }> {
  const model = await loadModel(path('model'), backend());
  let [sum, count] = [0, 0];
  for (const document of documents) {
    const bytes = new TextEncoder().encode(document);
    if (bytes.length < 2) continue;
    const { loss, tokens } = await evaluateSequence(model, bytes);
    sum += loss * tokens;
    count += tokens;
  }
  model.dispose();
  return { loss: sum / count, tokens: count };
}

describe('elapid eval', () => {
  test.each<[string, Readonly<Record<string, string>>, readonly string[], readonly string[]]>([
    ['an empty document at the end', { 'a.jsonl': '{"text":"Call me Ishmael."}\n{"text":"Some years ago"}\n{"text":""}\n' }, [], ['Call me Ishmael.', 'Some years ago']],
    ['empty documents and one of a byte', { 'b.jsonl': '{"text":""}\n{"text":"x"}\n\n{"text":"Some years ago"}' }, [], ['Some years ago']],
    ['separators with blanks after them', { 'c.txt': 'one\n<|end|> \n\n<|end|>\r\ntwo\n' }, ['--document-separator', '<|end|>'], ['one\n', 'two\n']],
    ['a folder of texts', { 'b.txt': 'second', 'a.md': 'first', 'c.jsonl': '{"text":"third"}\n', 'no.csv': 'left out' }, [], ['first', 'second', 'third']],
    ['a folder of one text', { 'only.txt': 'a text by itself' }, ['--limit', '6'], ['a text']],
    ['a limit beyond the end', { 'short.txt': 'short' }, ['--limit', '1000000'], ['short']],
  ])('%s', async (name, files, options, documents) => {
    const folder = path(name.replaceAll(' ', '-'));
    mkdirSync(folder);
    for (const [file, content] of Object.entries(files)) writeFileSync(`${folder}/${file}`, content);
    const [only = ''] = Object.keys(files);
    const text = Object.keys(files).length === 1 && name.length % 2 === 0 ? `${folder}/${only}` : folder;
    const { loss, tokens } = await expected(documents);
    const { code, stdout, stderr } = await runHere('eval', path('model'), text, '--threads', '1', '--json', ...options);
    expect({ code, stderr: stderr.replace(/^[\d,]+ of ([\d,]+) tokens .*\n/gm, (_, total: string) => (total === String(tokens) ? '' : total)) }).toEqual({ code: 0, stderr: '' });
    const result = JSON.parse(stdout) as Record<string, number>;
    expect(Object.keys(result)).toEqual(['loss', 'perplexity', 'wordPerplexity', 'bitsPerByte', 'tokens', 'bytes', 'words', 'tokensPerSecond']);
    expect(result).toMatchObject({ tokens, bytes: tokens });
    expect(result['loss']).toBeCloseTo(loss, 5);
    expect(result['bitsPerByte']).toBeCloseTo(loss / Math.LN2, 5);
    expect(result['perplexity']).toBeCloseTo(Math.exp(loss), 3);
  });

  test('the token that ends a document counts as a token, and not as bytes', async () => {
    mkdirSync(path('words'));
    const vocabulary = ['<eos>', '?', 'the', 'cat', 'sat'];
    writeFileSync(path('words', 'tokenizer.json'), JSON.stringify({
      added_tokens: [{ id: 0, content: '<eos>', special: true }],
      pre_tokenizer: { type: 'WhitespaceSplit' },
      model: { type: 'WordLevel', vocab: Object.fromEntries(vocabulary.map((word, id) => [word, id])), unk_token: '?' },
    }));
    writeFileSync(path('words', 'tokenizer_config.json'), JSON.stringify({ eos_token: '<eos>' }));
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 8, dModel: 16, layers: 1, dState: 4 }), backend(), 1);
    await saveModel(model, path('words'));
    model.dispose();
    writeFileSync(path('words.jsonl'), '{"text":"the cat sat"}\n{"text":""}\n{"text":"sat"}\n');
    const { code, stdout, stderr } = await runHere('eval', path('words'), path('words.jsonl'), '--threads', '1', '--json');
    expect(code, stderr).toBe(0);
    // "cat sat" with the blank between, and the two ends.
    expect(JSON.parse(stdout)).toMatchObject({ tokens: 4, bytes: 7 });
  });

  test('--limit reads the beginning of a file that is too long for a string', async () => {
    const file = openSync(path('huge.txt'), 'w');
    writeSync(file, trainingText.slice(0, 1000));
    ftruncateSync(file, 600_000_000);
    closeSync(file);
    const { tokens, loss } = await expected([trainingText.slice(0, 500)]);
    const { code, stdout, stderr } = await runHere('eval', path('model'), path('huge.txt'), '--limit', '500', '--json', '--threads', '1');
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as Record<string, number>;
    expect(result['tokens']).toBe(tokens);
    expect(result['loss']).toBeCloseTo(loss, 5);
  });
});

describe('elapid train and elapid tokenize', () => {
  test('a folder of texts is its files, by name', async () => {
    mkdirSync(path('novel', 'drafts'), { recursive: true });
    const parts = trainingText.match(/[^]{1,2000}/g) ?? [];
    parts.forEach((part, i) => writeFileSync(path('novel', `part-${i}.txt`), part));
    writeFileSync(path('novel', 'cover.png'), Uint8Array.of(0x89, 0x50));
    writeFileSync(path('novel', '.hidden.txt'), 'hidden');
    const { code, stderr } = await runHere('train', path('novel'), '--out', path('novel-run'), ...tinyModel, '--steps', '2', '--validation-share', '0.5');
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/ 2 training and 1 held-out documents, /);
    const tokenized = await runHere('tokenize', path('novel'), '--out', path('novel-shards'));
    expect(tokenized.stderr).toMatch(/^3 documents of 6,000 tokens in 1 shard, in /);
  });

  test.each<{ name: string; make: (file: (name: string) => string) => string; message: RegExp }>([
    {
      name: 'a folder without text',
      make(file) {
        for (const name of ['a.pdf', 'b.pdf', 'c.pdf', 'd.pdf', 'e.pdf', 'f.pdf']) writeFileSync(file(name), 'x');
        return file('.');
      },
      message: /is a folder that holds a\.pdf, b\.pdf, c\.pdf, d\.pdf, e\.pdf and 1 more; expected a file of text, or a folder of \.txt/,
    },
    { name: 'an empty folder', make: (file) => file('.'), message: /is an empty folder; expected a file of text/ },
    {
      name: 'a compressed text',
      make(file) {
        writeFileSync(file('a.txt.gz'), gzipSync(trainingText));
        return file('a.txt.gz');
      },
      message: /a\.txt\.gz is compressed with gzip; expected a file of UTF-8 text\. Hint: gunzip it first/,
    },
    {
      name: 'compressed JSON lines under their own name',
      make(file) {
        writeFileSync(file('a.jsonl'), gzipSync('{"text":"a"}\n'));
        return file('a.jsonl');
      },
      message: /a\.jsonl is compressed with gzip/,
    },
    {
      name: 'a text of a Windows program',
      make(file) {
        writeFileSync(file('a.txt'), `\uFEFF${trainingText}`, 'utf16le');
        return file('a.txt');
      },
      message: /a\.txt is UTF-16 .* Hint: iconv -f UTF-16 -t UTF-8/,
    },
  ])('say what is wrong with $name', async ({ name, make, message }) => {
    const folder = path(`wrong-${name.replaceAll(' ', '-')}`);
    mkdirSync(folder);
    const text = make((file) => `${folder}/${file}`);
    const commands = [['train', text, '--out', `${folder}-out`, ...tinyRun], ['tokenize', text, '--out', `${folder}-out`], ['eval', path('model'), text]];
    // In turn: that all of them read texts the same way is their code, and a process takes its time.
    const { code, stdout, stderr } = await runHere(...(commands[name.length % 3] ?? []));
    expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^elapid: [^\n]+\n$/);
    expect(stderr).toMatch(message);
  });

  test('say that a folder has no tokenizer', async () => {
    writeFileSync(path('some.txt'), trainingText);
    for (const args of [['tokenize', path('some.txt'), '--out', path('no')], ['train', path('some.txt'), '--out', path('no'), ...tinyRun]]) {
      const { code, stderr } = await runHere(...args, '--tokenizer', path('novel'));
      expect(code).toBe(1);
      expect(stderr).toMatch(/^elapid: .*novel: there is no tokenizer\.json in it\. Hint: /);
    }
  });
});
