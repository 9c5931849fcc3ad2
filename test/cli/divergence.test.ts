import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { readMetrics, stepsOf, tinyModel, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { rewriteSafetensors } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';

describe('elapid train where a step diverges', () => {
  const path = useFolder();
  const settings = (folder: string) => JSON.parse(readFileSync(path(folder, 'run.json'), 'utf8')) as { training: Record<string, unknown>; sampleEvery?: number };

  /** Makes the values of a tensor of a run's checkpoint NaN: all of them, or the first few. */
  function spoil(folder: string, key: string, count = Infinity): void {
    const file = path(folder, 'training.safetensors');
    const bytes = rewriteSafetensors(readFileSync(file), ({ tensors }) => {
      const { dtype, shape, bytes: old } = tensors.get(key) ?? expect.fail(key);
      const values = new Float32Array(Uint8Array.from(old).buffer);
      values.fill(NaN, 0, Math.min(count, values.length));
      tensors.set(key, { dtype, shape, bytes: new Uint8Array(values.buffer) });
    });
    writeFileSync(file, bytes);
  }

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    writeFileSync(path('documents.txt'), trainingText.split('\n\n').filter((text) => text !== '').join('\n<|endoftext|>\n'));
    const make = (text: string, out: string, ...more: readonly string[]) => runHere('train', path(text), '--out', path(out), ...tinyRun, ...more);
    for (const name of ['weight', 'state']) {
      const text = name === 'weight' ? ['text.txt'] : ['documents.txt'];
      const separator = name === 'weight' ? [] : ['--document-separator', '<|endoftext|>'];
      const { code, stderr } = await make(text[0] as string, name, '--steps', '6', ...separator);
      expect(code, stderr).toBe(0);
      // Six steps more, as if the run had been interrupted.
      const file = path(name, 'run.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace('"steps": 6', '"steps": 12'));
    }
  });

  test('stops with what happened, where, and what to type next; the checkpoint stays', async () => {
    spoil('weight', 'weight.backbone.layers.1.mixer.D');
    const checkpoint = readFileSync(path('weight', 'training.safetensors'));
    const { code, stdout, stderr } = await runHere('train', '--resume', path('weight'), '--threads', '1');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const what = 'step 7 has loss NaN and gradient norm NaN; NaN was there before the step: backbone.layers.1.mixer.D, which selectiveScan in layers.1.mixer reads';
    const folder = path('weight');
    const advice = `The checkpoint of step 6 is untouched. Hint: elapid train --resume ${folder} --learning-rate 0.005, or with --on-divergence skip`;
    expect(stderr).toContain(`\nelapid: train: ${what}. ${advice}\n`);
    expect(readFileSync(path('weight', 'training.safetensors')).equals(checkpoint)).toBe(true);
    expect(readMetrics(path('weight', 'metrics.jsonl')).at(-1)).toMatchObject({ step: 7, divergence: what, skipped: false });
    // Plots and resumed runs know the line for none of a step.
    expect((await runHere('plot', path('weight'), '--out', path('plot.svg'))).code).toBe(0);
    expect(readFileSync(path('plot.svg'), 'utf8')).not.toMatch(/NaN/);
    expect(stepsOf(path('weight', 'metrics.jsonl')).map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6]);

    const skipping = await runHere('train', '--resume', path('weight'), '--on-divergence', 'skip', '--learning-rate', '0.005', '--threads', '1');
    expect(skipping.code).toBe(1);
    expect(skipping.stderr).toMatch(/With such a weight no step can be right\. The checkpoint of step 6 is untouched\. Hint: elapid train --resume \S+ --learning-rate 0\.0025\n$/);
    expect(settings('weight').training).toMatchObject({ onDivergence: 'skip', learningRate: 0.005 });
  });

  test('goes on without the step where asked', async () => {
    // The first of two rows.
    spoil('state', 'state.1.ssm', 10);
    const { code, stderr } = await runHere('train', '--resume', path('state'), '--on-divergence', 'skip', '--threads', '1');
    expect(code, stderr).toBe(0);
    const what = 'step 7 has loss NaN and gradient norm NaN; NaN was there before the step: the carried state, which selectiveScan in layers.1.mixer reads';
    expect(stderr).toContain(`left out: ${what}\n`);
    const lines = readMetrics(path('state', 'metrics.jsonl'));
    expect(lines.filter(({ divergence }) => divergence !== undefined)).toMatchObject([{ step: 7, divergence: what, skipped: true }]);
    expect(stepsOf(path('state', 'metrics.jsonl')).map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]);
  });

  test('settings that cannot change are refused by --resume, by name', async () => {
    const { code, stderr } = await runHere('train', '--resume', path('state'), '--threads', '1', '--d-model', '16');
    expect(code).toBe(2);
    expect(stderr).toContain("error: '--resume' takes '--d-model' from the run's folder");
  });
});

describe('elapid train --sample-every', () => {
  const path = useFolder();
  const samplesOf = (folder: string) => readMetrics(path(folder, 'metrics.jsonl')).flatMap(({ step, prompt, sample }) => (sample === undefined ? [] : [{ step, prompt, sample }]));
  const train = async (out: string, ...more: readonly string[]) => {
    const { code, stderr } = await runHere('train', path('text.txt'), '--out', path(out), ...(more.includes('--validation') ? tinyModel : tinyRun), '--steps', '6', ...more);
    expect(code, stderr).toBe(0);
  };

  beforeAll(() => {
    writeFileSync(path('text.txt'), trainingText);
  });

  test('does not change the run, and repeats', async () => {
    await train('without');
    await train('with', '--sample-every', '2');
    await train('again', '--sample-every', '2');
    expect(samplesOf('without')).toEqual([]);
    expect(samplesOf('with').map(({ step }) => step)).toEqual([2, 4, 6]);
    expect(samplesOf('again')).toEqual(samplesOf('with'));
    expect(readFileSync(path('with', 'model.safetensors')).equals(readFileSync(path('without', 'model.safetensors')))).toBe(true);
    expect(stepsOf(path('with', 'metrics.jsonl'))).toEqual(stepsOf(path('without', 'metrics.jsonl')));
  });

  test('with a tokenizer, on documents, and with nothing held out but a file of its own', async () => {
    const characters = [...new Set(trainingText)].filter((character) => character !== ' ');
    const vocabulary = ['</s>', '▁', ...characters, '▁t', 'he'];
    const tokenizer = {
      added_tokens: [{ id: 0, content: '</s>', special: true }],
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      decoder: { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      model: { type: 'BPE', vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])), merges: ['▁ t', 'h e'] },
    };
    writeFileSync(path('tokenizer.json'), JSON.stringify(tokenizer));
    writeFileSync(path('tokenizer_config.json'), JSON.stringify({ eos_token: '</s>' }));
    writeFileSync(path('held.txt'), trainingText.slice(100, 700));
    const documents = trainingText.split('\n\n').filter((text) => text !== '');
    writeFileSync(path('documents.jsonl'), documents.map((text) => `${JSON.stringify({ text })}\n`).join(''));
    await train('bpe', '--tokenizer', path(), '--sample-every', '3', '--validation', path('held.txt'));
    const { code, stderr } = await runHere('train', path('documents.jsonl'), '--out', path('documents'), ...tinyModel, '--steps', '6', '--sample-every', '6', '--validation-share', '0.5');
    expect(code, stderr).toBe(0);
    const samples = samplesOf('bpe');
    expect(samples.map(({ step }) => step)).toEqual([3, 6]);
    for (const { prompt, sample } of samples) {
      expect(prompt?.length).toBeGreaterThan(31);
      expect(trainingText.slice(100).startsWith(prompt ?? '-')).toBe(true);
      expect(sample.length).toBeGreaterThan(0);
    }
    const [ofDocuments] = samplesOf('documents');
    expect(documents[1]?.startsWith((ofDocuments?.prompt ?? '-').trimEnd())).toBe(true);
  });
});
