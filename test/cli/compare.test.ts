import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { shortNames } from '../../src/cli/short-names.js';
import { readWindows, scoredWindows } from '../../src/cli/text-windows.js';
import { falconMambaFamily, familyNamed, LanguageModel, loadModel, mambaConfig, mambaFamily, saveModel, State } from '../../src/models/index.js';
import { countParameters } from '../../src/nn/index.js';
import { ByteTokenizer, loadTokenizer } from '../../src/tokenizer/index.js';
import { useBackend } from '../support/backends.js';
import { startCli, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, read } from '../support/models.js';
import { runHere } from '../support/run-here.js';

interface Compared {
  readonly text: { readonly windows: number; readonly bytes: number; readonly scoredBytes: number };
  readonly models: readonly {
    readonly model: string;
    readonly family: string;
    readonly dtype: string;
    readonly parameters: number;
    readonly weightBytes: number;
    readonly loss: number;
    readonly perplexity: number;
    readonly bitsPerByte: number;
    readonly tokens: number;
    readonly bytes: number;
    readonly curve: readonly { readonly from: number; readonly to: number; readonly bitsPerByte: number }[];
    readonly reading: { readonly tokensPerSecond: number; readonly bytesPerSecond: number };
    readonly writing: { readonly tokensPerSecond: number; readonly bytesPerSecond: number };
    readonly state: readonly { readonly context: number; readonly bytes: number }[];
    readonly peakBytes: number;
  }[];
}

const text = trainingText.replace(/[^ -~\n]/g, '').slice(0, 500);
const vocabulary = ['▁', ...new Set(text.replaceAll(' ', '')), 'he', 'the', '▁the'];
/** Blanks are ▁; longer pieces begin elsewhere than letters do. */
const tokenizer = (merges: readonly string[]) => ({
  added_tokens: [],
  normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  decoder: { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
  model: { type: 'BPE', vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])), merges },
});
const merges = ['h e', 't he', '▁ the'];

describe('elapid compare', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();
  const names = ['bytes', 'pieces', 'words'] as const;

  beforeAll(async () => {
    const sizes = { dModel: 16, layers: 2, dState: 4 };
    const vocabularySize = vocabulary.length + 3;
    const config = falconMambaFamily.configOf({ ...sizes, vocabularySize, embeddingDeviation: 0.5 });
    const models = {
      bytes: LanguageModel.initial(mambaFamily, mambaConfig({ ...sizes, vocabularySize: 256, initialisation: { embeddingDeviation: 0.5 } }), backend(), 1),
      pieces: LanguageModel.initial(falconMambaFamily, config, backend(), 2),
      words: LanguageModel.initial(falconMambaFamily, config, backend(), 3),
    };
    for (const name of names) {
      await saveModel(models[name], path('runs', name));
      models[name].dispose();
    }
    writeFileSync(path('runs', 'pieces', 'tokenizer.json'), JSON.stringify(tokenizer(merges.slice(0, 1))));
    writeFileSync(path('runs', 'words', 'tokenizer.json'), JSON.stringify(tokenizer(merges)));
    writeFileSync(path('text.txt'), text);
  });

  const compare = async (...args: readonly string[]): Promise<Compared> => {
    const { code, stdout, stderr } = await runHere('compare', ...args, '--json', '--threads', '1');
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout) as Compared;
  };

  /** −ln of the probability of each token of a window but the first, in float64, from all logits at once. */
  async function lossesOf(model: LanguageModel, ids: Int32Array): Promise<number[]> {
    const logits = await read(() => model.forward(idTensor(backend(), ids, [1, ids.length])));
    const size = model.config.vocabularySize;
    return Array.from(ids.subarray(1), (id, i) => {
      const row = logits.subarray(i * size, (i + 1) * size);
      return Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (row[id] ?? NaN);
    });
  }

  test.each([
    { of: ['bytes', 'pieces', 'words'], length: 64 },
    { of: ['words', 'bytes'], length: 100 },
    { of: ['pieces'], length: 500 },
  ])('bits a byte of $of in windows of $length are those of the logits, on the same bytes', async ({ of, length }) => {
    const { text: about, models: rows } = await compare(...of.map((name) => path('runs', name)), path('text.txt'), '--length', String(length));
    const windows = text.match(new RegExp(`[^]{1,${length}}`, 'g')) ?? [];
    const encoders = await Promise.all(of.map((name) => loadTokenizer(path('runs', name), name === 'bytes' ? 256 : undefined)));
    const spelled = encoders.map((encoder) =>
      windows.map((window) => {
        const ids = encoder.encode(window);
        let at = 0;
        const starts = Array.from(ids, (id) => (at += encoder.decode([id]).length) - encoder.decode([id]).length);
        return { ids, starts };
      }),
    );
    const firsts = windows.map((_, w) => {
      const common = (at: number) => spelled.every((one) => one[w]?.starts.includes(at));
      return spelled[0]?.[w]?.starts.find((at) => at > 0 && common(at)) ?? NaN;
    });
    const scoredBytes = windows.reduce((sum, window, w) => sum + window.length - (firsts[w] ?? NaN), 0);
    expect(about).toMatchObject({ windows: windows.length, bytes: 500, scoredBytes });
    for (const [m, name] of of.entries()) {
      const model = await loadModel(path('runs', name), backend());
      let [sum, tokens] = [0, 0];
      const early: number[] = [];
      for (const [w, { ids, starts }] of (spelled[m] ?? []).entries()) {
        const losses = await lossesOf(model, ids);
        losses.forEach((loss, i) => {
          const start = starts[i + 1] ?? NaN;
          if (start < (firsts[w] ?? NaN)) return;
          sum += loss;
          tokens++;
          // The share of its bytes that is among a window's first eight.
          const end = starts[i + 2] ?? windows[w]?.length ?? NaN;
          early.push((loss * Math.max(0, Math.min(end, 8) - start)) / (end - start));
        });
      }
      model.dispose();
      const row = rows[m];
      expect(row).toMatchObject({ model: path('runs', name), family: model.family.name, dtype: 'f32', tokens, bytes: scoredBytes });
      expect(row?.loss).toBeCloseTo(sum / tokens, 5);
      expect(row?.perplexity).toBeCloseTo(Math.exp(sum / tokens), 2);
      expect(row?.bitsPerByte).toBeCloseTo(sum / Math.LN2 / scoredBytes, 5);
      const earlyBytes = firsts.reduce((all, first) => all + Math.max(0, 8 - first), 0);
      expect(row?.curve[0]).toMatchObject({ from: 0, to: 8 });
      expect(row?.curve[0]?.bitsPerByte).toBeCloseTo(early.reduce((a, b) => a + b, 0) / Math.LN2 / earlyBytes, 5);
      expect(row?.curve.at(-1)?.to).toBe(length);
    }
  });

  test('a window longer than a Transformer’s context is read in parts that overlap by half; its state grows with the context', async () => {
    const config = familyNamed('transformer').configOf({ vocabularySize: 256, dModel: 16, layers: 1 });
    const made = LanguageModel.initial(familyNamed('transformer'), { ...config, contextLength: 48 }, backend(), 4);
    await saveModel(made, path('runs', 'attention'));
    const [window = ''] = /[^]{64}/.exec(text) ?? [];
    const ids = new ByteTokenizer().encode(window);
    // Positions 0 to 47 from the first part, the others from the second, which begins at 24.
    const expected = [...(await lossesOf(made, ids.slice(0, 49))), ...(await lossesOf(made, ids.slice(24))).slice(24)];
    const sizes = [7, 1024].map((context) => ({ context, bytes: State.sizeBytes(made, context) }));
    made.dispose();
    const args = ['--length', '64', '--limit', '64', '--context', '7', '--context', '1024'];
    const { models: rows } = await compare(path('runs', 'attention'), path('text.txt'), ...args);
    expect(rows[0]).toMatchObject({ family: 'transformer', tokens: 63, bytes: 63, state: sizes });
    expect(rows[0]?.loss).toBeCloseTo(expected.reduce((a, b) => a + b, 0) / 63, 5);
    expect(sizes[1]?.bytes).toBe(16 * (sizes[0]?.bytes ?? NaN));
  });

  test('speeds and memory', async () => {
    const contexts = ['--context', '7', '--context', '1024'];
    const { models: rows } = await compare(path('runs', 'bytes'), path('runs', 'words'), path('text.txt'), '--limit', '200', ...contexts);
    for (const [i, name] of ['bytes', 'words'].entries()) {
      const model = await loadModel(path('runs', name), backend());
      const row = rows[i];
      const parameters = countParameters(model.parameters);
      const stateBytes = State.sizeBytes(model);
      model.dispose();
      expect(row).toMatchObject({ parameters, weightBytes: 4 * parameters, state: [{ context: 7, bytes: stateBytes }, { context: 1024, bytes: stateBytes }] });
      expect(row?.peakBytes).toBeGreaterThan(4 * parameters + stateBytes);
      for (const { tokensPerSecond, bytesPerSecond } of row === undefined ? [] : [row.reading, row.writing]) {
        expect(tokensPerSecond).toBeGreaterThan(0);
        expect(bytesPerSecond / tokensPerSecond).toBeCloseTo((row?.bytes ?? NaN) / (row?.tokens ?? NaN), 9);
      }
    }
    const packed = await compare(path('runs', 'bytes'), path('text.txt'), '--limit', '200', '--dtype', 'int8');
    expect(packed.models[0]).toMatchObject({ dtype: 'int8', state: [{ context: 1024 }, { context: 16384 }, { context: 131072 }] });
    const inspected = await runHere('inspect', path('runs', 'bytes'), '--dtype', 'int8', '--json');
    expect(packed.models[0]?.weightBytes).toBe((JSON.parse(inspected.stdout) as { parameters: { bytes: number } }).parameters.bytes);
  });

  test('prints a column for each model, and draws both charts', async () => {
    const args = [path('runs', 'bytes'), path('runs', 'words'), path('text.txt'), '--length', '64', '--threads', '1'];
    const { code, stdout, stderr } = await runHere('compare', ...args, '--out', path('compared.svg'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^500 bytes in 8 windows of at most 64, each read from its beginning; \d+ bytes scored, the same for all; cpu /);
    expect(stdout).toMatch(/\n {10,}bytes +words\nfamily +mamba +falcon-mamba\nparameters +[\d,]+ +[\d,]+\nbits a byte +\d+\.\d{4} +\d+\.\d{4}\n/);
    expect(stdout).toMatch(/\nweights +\S+ kB f32 +\S+ kB f32\nstate, 1K tokens +.* kB\nstate, 16K tokens .*\nstate, 128K tokens .*\ntensors at most .*\n$/);
    const widths = new Set(stdout.split('\n').slice(2, -1).map((line) => line.length));
    expect(widths.size).toBe(1);
    const svg = readFileSync(path('compared.svg'), 'utf8');
    expect(svg).toMatch(/^<svg [^]*>Bits a byte by position<[^]*>position in the window, bytes<[^]*>Memory by context<[^]*>128K<[^]*>context, tokens<[^]*<\/svg>\n$/);
    expect(svg.match(/<path /g)).toHaveLength(4);
    // The legend names a model once.
    for (const name of ['bytes', 'words']) expect(svg.match(new RegExp(`>${name}<`, 'g'))).toHaveLength(1);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('a tokenizer that leaves letters out is told of', async () => {
    writeFileSync(path('odd.txt'), `the äöü ${text.slice(0, 100)}`);
    const { code, stderr } = await runHere('compare', path('runs', 'words'), path('runs', 'bytes'), path('odd.txt'), '--threads', '1');
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^elapid: warning: the tokenizer of \S+words changes the text \(lower case, characters left out\): its bits a byte are of less than the text$/m);
    expect(stderr.match(/warning/g)).toHaveLength(1);
  });

  test.each<{ name: string; args: () => string[]; code?: number; message: RegExp }>([
    { name: 'no text', args: () => [path('runs', 'bytes')], code: 2, message: /missing argument 'text': expected models, and last the text/ },
    { name: '--overwrite of nothing', args: () => [path('runs', 'bytes'), path('text.txt'), '--overwrite'], code: 2, message: /option '--overwrite' is for the file that '--out' names/ },
    { name: 'a context of 0', args: () => [path('runs', 'bytes'), path('text.txt'), '--context', '0'], code: 2, message: /expected an integer ≥ 1/ },
    { name: 'a model last', args: () => [path('runs', 'bytes'), path('runs', 'words')], message: /compare: \S+words is a model; expected a file of text, or a folder of texts, as the last argument\. Hint: the text/ },
    { name: 'a name last', args: () => [path('runs', 'bytes'), 'stories'], message: /compare: stories is a model; expected a file of text/ },
    { name: 'a text first', args: () => [path('text.txt'), path('runs', 'bytes'), path('text.txt')], message: /compare: \S+text\.txt is a text; expected a model: .*\. Hint: one text comes last/ },
    { name: 'a folder of texts first', args: () => [path('texts'), path('text.txt')], message: /compare: \S+texts is a text; expected a model: / },
    { name: 'no model of two', args: () => [path('runs', 'bytes'), path('runs', 'nowhere'), path('text.txt')], message: /runs\/nowhere: no such file or folder/ },
    { name: 'weights without a config', args: () => [path('runs', 'bytes'), path('bare'), path('text.txt')], message: /bare\S*: no config\.json beside the weights/ },
    { name: 'another format than it is packed in', args: () => [path('runs', 'bytes'), path('packed'), path('text.txt'), '--dtype', 'bf16'], message: /packed\/model\.safetensors, .*is packed as int8; it cannot be loaded as bf16/ },
    { name: 'no tokenizer', args: () => [path('runs', 'bytes'), goldenPath('hf-mamba'), path('text.txt')], message: /hf-mamba: there is no tokenizer\.json, and the model has 97 ids/ },
    { name: 'no file', args: () => [path('runs', 'bytes'), path('no.txt')], message: /no\.txt is unreadable/ },
    { name: 'one letter', args: () => [path('runs', 'bytes'), path('letter.txt')], message: /compare: the text is too short; expected at least two tokens under every tokenizer/ },
    { name: 'a text of letters that one tokenizer lacks', args: () => [path('runs', 'bytes'), path('runs', 'words'), path('letters.txt')], message: /compare: the text is too short; expected at least two tokens under every tokenizer/ },
    { name: 'no picture', args: () => [path('runs', 'bytes'), path('text.txt'), '--out', path('c.png')], message: /compare: --out is \S+c\.png; expected a name that ends in \.svg/ },
    { name: 'another file', args: () => [path('runs', 'bytes'), path('text.txt'), '--out', path('other.svg')], message: /compare: \S+other\.svg is a file that is no SVG/ },
  ])('an error comes before anything is measured: $name', async ({ args, code = 1, message }) => {
    if (!existsSync(path('bare'))) {
      for (const folder of ['texts', 'bare']) mkdirSync(path(folder));
      writeFileSync(path('texts', 'a.txt'), 'a text');
      writeFileSync(path('bare', 'model.safetensors'), readFileSync(path('runs', 'bytes', 'model.safetensors')));
      writeFileSync(path('letter.txt'), 'a');
      writeFileSync(path('letters.txt'), 'äöü');
      writeFileSync(path('other.svg'), 'no picture');
      expect((await runHere('quantize', path('runs', 'bytes'), '--out', path('packed'), '--dtype', 'int8', '--threads', '1')).code).toBe(0);
    }
    const result = await runHere('compare', ...args(), '--threads', '1');
    expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: '' });
    expect(result.stderr).toMatch(message);
    if (code === 1) expect(result.stderr).toMatch(/^elapid: [^\n]+\n$/);
  });

  test('can be interrupted', async () => {
    writeFileSync(path('long.txt'), trainingText.repeat(200));
    const running = startCli(['compare', path('runs', 'bytes'), path('long.txt'), '--limit', '1000000000', '--length', '64', '--threads', '1']);
    await new Promise<void>((resolve) => running.child.stderr.once('data', () => resolve()));
    running.child.kill('SIGINT');
    expect(await running.result).toMatchObject({ code: 130, stdout: '' });
  });
});

describe('windows of texts', () => {
  const path = useFolder();
  const bytes = new ByteTokenizer();

  test.each<{ file: string; content: string; length: number; limit?: number; options?: object; windows: string[] }>([
    { file: 'plain.txt', content: 'abcdefgh', length: 3, windows: ['abc', 'def', 'gh'] },
    { file: 'cut.txt', content: 'aéüßo', length: 4, windows: ['aé', 'üß', 'o'] },
    { file: 'limit.txt', content: 'aéü', length: 10, limit: 4, windows: ['aé'] },
    { file: 'mark.txt', content: '\uFEFFab', length: 10, windows: ['ab'] },
    { file: 'parts.txt', content: 'ab\n--\ncdefg\n', length: 4, options: { documentSeparator: '--' }, windows: ['ab\n', 'cdef', 'g\n'] },
    { file: 'lines.jsonl', content: '{"text":"abcde"}\n{"text":"fg"}\n{"text":"hi"}\n', length: 3, limit: 7, windows: ['abc', 'de', 'fg'] },
  ])('$file', async ({ file, content, length, limit = 1000, options = {}, windows }) => {
    writeFileSync(path(file), content);
    const read = await readWindows([path(file)], { length, limit, ...options });
    expect(read).toEqual(windows.map((text) => ({ text, bytes: Buffer.byteLength(text) })));
  });

  test('without a place where tokens begin are left out', () => {
    const windows = ['ab', 'c', 'de'].map((text) => ({ text, bytes: text.length }));
    const scored = [windows[0], windows[2]].map((window) => ({ ...window, firstScored: 1 }));
    expect(scoredWindows(windows, [bytes, bytes])).toEqual({ scored, inexact: new Set() });
  });
});

test.each([
  { paths: ['runs/a', 'runs/b/'], names: ['a', 'b'] },
  { paths: ['one/a', 'two/a', './two/b'], names: ['one/a', 'two/a', 'b'] },
  { paths: ['stories', '/x/stories'], names: ['stories', '/x/stories'] },
])('$paths are $names for short', ({ paths, names }) => {
  expect(shortNames(paths)).toEqual(names);
});
