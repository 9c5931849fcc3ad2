import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { restoreTraining, saveTraining } from '../../src/train/index.js';
import { checkpointErrorOf, rewriteSafetensors } from '../support/checkpoints.js';
import { useBackend } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { tinyConfig, tinyOptions, tinyText, TinyRun } from '../support/training.js';

describe('a training checkpoint that does not fit', () => {
  const backend = useBackend('cpu');
  const folder = useFolder();
  let good: Buffer;

  async function savedBy(run: TinyRun): Promise<Buffer> {
    await run.steps(2);
    await saveTraining(run.trainer, folder('saved'), 0);
    run.dispose();
    return readFileSync(folder('saved'));
  }

  beforeAll(async () => {
    good = await savedBy(new TinyRun(backend()));
  });

  /** Restores `bytes` into a run that is under way: it must throw, and the run must not notice. */
  async function refusal(bytes: Uint8Array) {
    const path = folder('training.safetensors');
    writeFileSync(path, bytes);
    const [run, undisturbed] = [new TinyRun(backend(), { seed: 8 }), new TinyRun(backend(), { seed: 8 })];
    try {
      await run.steps(3);
      await undisturbed.steps(3);
      const error = await checkpointErrorOf(() => restoreTraining(run.trainer, path));
      expect(error.file).toBe(path);
      expect(await run.snapshot()).toEqual(await undisturbed.snapshot());
      expect(await run.steps(1)).toEqual(await undisturbed.steps(1));
      expect(await run.snapshot()).toEqual(await undisturbed.snapshot());
      return error;
    } finally {
      run.dispose();
      undisturbed.dispose();
    }
  }

  test.each([0, 5, 8, 100, 0.5, 0.999])('cut off at %d', async (at) => {
    const length = at < 1 ? Math.floor(at * good.length) : at;
    expect((await refusal(good.subarray(0, length))).message).toMatch(/truncated|ends|incomplete|header|is empty/);
  });

  test('a header that is not JSON', async () => {
    const bytes = Uint8Array.from(good);
    bytes.fill(0x21, 40, 60);
    expect((await refusal(bytes)).message).toMatch(/JSON|byte \d+/);
  });

  test.each<[string, (bytes: Buffer) => number, RegExp]>([
    ['the last moment', (bytes) => bytes.length - 1, /key '\S+', byte \d+: the tensor is damaged: its checksum is/],
    ['a weight', (bytes) => Math.floor(bytes.length * 0.9), /key '\S+', byte \d+: the tensor is damaged/],
    ['the step', (bytes) => bytes.indexOf('"step":"2"') + 8, /the header is damaged: its checksum is/],
    ['the position in the data', (bytes) => bytes.indexOf('position') + 12, /the header is damaged|JSON|checksum/],
  ])('a flipped bit of %s', async (_, place, message) => {
    const bytes = Uint8Array.from(good);
    bytes[place(good)] = (bytes[place(good)] ?? 0) ^ 1;
    expect((await refusal(bytes)).message).toMatch(message);
  });

  test('a missing tensor', async () => {
    const bytes = rewriteSafetensors(good, ({ tensors }) => tensors.delete('second.backbone.norm_f.weight'));
    const error = await refusal(bytes);
    expect(error.key).toBe('second.backbone.norm_f.weight');
    expect(error.message).toContain('is missing; expected F32 [20] for this model');
  });

  test('metadata of something else', async () => {
    const bytes = rewriteSafetensors(good, ({ metadata }) => (metadata['kind'] = 'pt'));
    expect((await refusal(bytes)).message).toContain('is not a training checkpoint of elapid');
  });

  test('a position beyond the epoch', async () => {
    const bytes = rewriteSafetensors(good, ({ metadata }) => (metadata['sampler'] = '{"seed":1,"epoch":0,"position":1000000}'));
    expect((await refusal(bytes)).message).toMatch(/state\.position is 1000000; expected an integer from 0 to the \d+ batches/);
  });

  test.each([
    { name: 'wider', config: { ...tinyConfig, dInner: 48 }, message: /is F32 \[.*\]; expected F32 \[.*\] for this model/ },
    { name: 'with a layer less', config: { ...tinyConfig, layers: 1 }, message: /is missing; expected F32/ },
    { name: 'with a layer more', config: { ...tinyConfig, layers: 3 }, message: /key '\w+\.backbone\.layers\.2\..*is no weight or moment of this model/ },
  ])('a model $name', async ({ config, message }) => {
    const error = await refusal(await savedBy(new TinyRun(backend(), { config })));
    expect(error.message).toMatch(message);
    expect(error.key).toBeDefined();
  });

  test('another text', async () => {
    const text = tinyText.slice();
    text[5] = ((text[5] ?? 0) + 1) % 29;
    const bytes = await savedBy(new TinyRun(backend(), { text }));
    expect((await refusal(bytes)).message).toMatch(/another text\. Hint: .*tokenizer and split/);
  });

  test('no file at all', async () => {
    const run = new TinyRun(backend());
    const error = await checkpointErrorOf(() => restoreTraining(run.trainer, folder('absent.safetensors')));
    expect(error.message).toContain('absent.safetensors');
    run.dispose();
  });

  test('other batches than it was saved with', async () => {
    const options = { batchSize: 1, length: 2, accumulation: 60 };
    expect(options.batchSize).not.toBe(tinyOptions.batchSize);
    const bytes = await savedBy(new TinyRun(backend(), { options }));
    expect((await refusal(bytes)).message).toContain('another text, batch size or length');
  });
});
