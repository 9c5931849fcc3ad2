import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { Decoder } from '../../src/generate/index.js';
import { loadModel, State } from '../../src/models/index.js';
import { countParameters } from '../../src/nn/index.js';
import { bitsPerByte, evaluateSequence, perplexity, wordPerplexity } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';
import { startCli, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';

// Two bytes a letter: every second cut falls into one.
const text = 'Ünïcödé, àéîõü. '.repeat(40);
const bytes = new TextEncoder().encode(text);

describe('elapid eval and elapid inspect', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    writeFileSync(path('other.txt'), text);
    const { code, stderr } = await runHere('train', path('text.txt'), '--out', path('run'), ...tinyRun, '--steps', '20');
    expect(code, stderr).toBe(0);
  });

  const evaluate = async (...args: readonly string[]) => {
    const { code, stdout, stderr } = await runHere('eval', path('run'), path('other.txt'), '--json', '--threads', '1', ...args);
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout) as Record<'loss' | 'perplexity' | 'wordPerplexity' | 'bitsPerByte' | 'words' | 'tokens' | 'bytes' | 'tokensPerSecond', number>;
  };

  test.each([
    { args: [], count: bytes.length, chunkLength: 1024 },
    { args: ['--chunk', '50'], count: bytes.length, chunkLength: 50 },
    { args: ['--limit', '202', '--chunk', '64'], count: 202, chunkLength: 64 },
  ])('eval --json $args is what evaluateSequence gives, to the bit', async ({ args, count, chunkLength }) => {
    const model = await loadModel(path('run'), backend());
    const expected = await evaluateSequence(model, bytes.subarray(0, count), { chunkLength });
    model.dispose();
    const result = await evaluate(...args);
    const words = new TextDecoder().decode(bytes.subarray(1, count)).split(/[ \t\r\n]+/).filter((word) => word !== '').length;
    // A token of this model is a byte, also where the first or the last is a part of a letter.
    expect(result).toEqual({
      ...expected,
      perplexity: perplexity(expected),
      wordPerplexity: wordPerplexity(expected, words),
      bitsPerByte: bitsPerByte(expected, count - 1),
      ...{ bytes: count - 1, words },
      tokensPerSecond: expect.any(Number) as number,
    });
    expect(result.tokens).toBe(count - 1);
  });

  test('eval --document-separator: each document from the beginning, none of the separators', async () => {
    const documents = ['Once upon a time.\n', `Ünïcödé ${'again '.repeat(300)}\n`, 'x\n', 'The end.\n'];
    writeFileSync(path('documents.txt'), documents.join('<|end|>\n'));
    writeFileSync(path('documents.jsonl'), documents.map((story) => `${JSON.stringify({ story })}\n`).join(''));
    const model = await loadModel(path('run'), backend());
    let [sum, count] = [0, 0];
    for (const document of documents.map((story) => new TextEncoder().encode(story)).filter(({ length }) => length > 1)) {
      const { loss, tokens } = await evaluateSequence(model, document);
      sum += loss * tokens;
      count += tokens;
    }
    model.dispose();
    const options = ['--json', '--threads', '1', '--chunk', '100'];
    for (const args of [[path('documents.txt'), '--document-separator', '<|end|>'], [path('documents.jsonl'), '--text-field', 'story']]) {
      const { code, stdout, stderr } = await runHere('eval', path('run'), ...args, ...options);
      expect(code, stderr).toBe(0);
      const result = JSON.parse(stdout) as Record<string, number>;
      expect(result).toMatchObject({ tokens: count, bytes: count });
      expect(result['loss']).toBeCloseTo(sum / count, 5);
      expect(result['bitsPerByte']).toBeCloseTo(sum / count / Math.LN2, 5);
    }
    const refused = await runHere('eval', path('run'), path('documents.txt'), '--document-separator', '<|end|>', '--limit', '10');
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain("'--limit' is for a text that is one sequence");
  });

  test('eval prints the same for people', async () => {
    const { loss, bitsPerByte: bits } = await evaluate();
    const { code, stdout } = await runHere('eval', path('run'), path('other.txt'), '--threads', '1');
    expect(code).toBe(0);
    expect(stdout).toContain(`loss         ${loss.toFixed(4)} nats a token (mean −ln of the probability of the right one)\n`);
    expect(stdout).toMatch(/^ {13}\d+\.\d{3}(e\+\d+)? a word$/m);
    expect(stdout).toContain(`bits a byte  ${bits.toFixed(4)}\n`);
    expect(stdout).toMatch(/^tokens {7}[\d,]+ predicted \([\d,]+ bytes, [\d,]+ words\) at /m);
  });

  test('eval can be interrupted', async () => {
    writeFileSync(path('long.txt'), 'x'.repeat(5_000_000));
    const running = startCli(['eval', path('run'), path('long.txt'), '--chunk', '16', '--threads', '1']);
    await new Promise<void>((resolve) => running.child.stderr.once('data', () => resolve()));
    running.child.kill('SIGINT');
    expect(await running.result).toMatchObject({ code: 130, stdout: '' });
  });

  test('inspect --json of transformers’ tiny Mamba', async () => {
    const { code, stdout, stderr } = await runHere('inspect', goldenPath('hf-mamba'), '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const inspection = JSON.parse(stdout) as {
      config: unknown;
      parameters: { total: number; parts: Record<string, number> };
      stateBytes: number;
      decodeStep: { launches: number; bytesRead: number; kernels: Record<string, number> };
    };
    const model = await loadModel(goldenPath('hf-mamba'), backend());
    const state = model.newState(1);
    const decoder = new Decoder(model, state);
    const weights = countParameters(model.parameters);
    expect(inspection.config).toEqual(model.config);
    expect(inspection.parameters.total).toBe(weights);
    expect(inspection.parameters.parts['embeddings']).toBe(97 * 32);
    expect(Object.values(inspection.parameters.parts).reduce((sum, part) => sum + part, 0)).toBe(weights);
    expect(inspection.stateBytes).toBe(State.sizeBytes(model));
    expect(inspection.decodeStep.bytesRead).toBeGreaterThan(4 * weights);
    expect(Object.values(inspection.decodeStep.kernels).reduce((sum, count) => sum + count, 0)).toBe(inspection.decodeStep.launches);
    for (const one of [decoder, state, model]) one.dispose();
  });

  test('inspect prints the same for people, of a folder, a weight file and a config alone', async () => {
    const [folder, file, config] = await Promise.all(
      ['hf-mamba', 'hf-mamba/model.safetensors', 'hf-mamba/config.json'].map((name) => runHere('inspect', goldenPath(name))),
    );
    expect(folder?.stdout).toMatch(/^layers +3 Mamba blocks, RMS norm$/m);
    expect(folder?.stdout).toMatch(/^ +layers\.\*\.mixer\.in_proj +12,288 +\d+\.\d %$/m);
    expect(folder?.stdout).toMatch(/^a token +\d+ launches, \S+ kB read, /m);
    expect(file).toEqual(folder);
    expect(config).toEqual(folder);
  });

  test('plot draws runs as SVG', async () => {
    const { code, stdout, stderr } = await runHere('plot', path('run'), '--out', path('loss.svg'));
    expect({ code, stderr, stdout }).toEqual({ code: 0, stderr: '', stdout: `${path('loss.svg')}\n` });
    const svg = readFileSync(path('loss.svg'), 'utf8');
    expect(svg).toMatch(/^<svg [^]*<\/svg>\s*$/);
    expect(svg).toContain('nats a token');
    expect(svg).not.toMatch(/NaN|undefined/);
    const refused = await runHere('plot', path('run'), '--x', 'length', '--out', path('lengths.svg'));
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('lengths.json: is missing; expected a folder that a finished elapid task induction-heads made');
  });
});
