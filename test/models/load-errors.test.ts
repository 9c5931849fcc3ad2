import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadModel, saveModel } from '../../src/models/index.js';
import type { CheckpointError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { checkpointErrorOf, rewriteSafetensors, type EditableContent } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';
import { smallModel } from '../support/models.js';

// Neither the first nor the last tensor of the model: those before it are already loaded when it turns out to be bad.
const key = 'backbone.layers.1.mixer.x_proj.weight';

describe.each(compiledKernels)('what is no Mamba model, on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const path = useFolder();
  const weights = () => path('broken', 'model.safetensors');
  const config = () => path('broken', 'config.json');

  beforeAll(async () => {
    const model = smallModel(backend());
    await saveModel(model, path('good'));
    model.dispose();
    mkdirSync(path('broken'));
  });

  beforeEach(() => {
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(path('good', file), path('broken', file));
  });

  async function refusal(name = 'broken'): Promise<CheckpointError> {
    const error = await checkpointErrorOf(() => loadModel(path(name), backend()));
    expect(backend().statistics().liveBuffers).toBe(0);
    return error;
  }

  const editWeights = (change: (content: EditableContent) => unknown) => {
    writeFileSync(weights(), rewriteSafetensors(readFileSync(weights()), change));
  };

  const editConfig = (change: Record<string, unknown>) => {
    const json = JSON.parse(readFileSync(config(), 'utf8')) as Record<string, unknown>;
    writeFileSync(config(), JSON.stringify({ ...json, ...change }));
  };

  /** Where the file has a tensor's first byte. */
  const offsetOf = (name: string): number => {
    const bytes = readFileSync(weights());
    const headerSize = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerSize)) as Record<string, { data_offsets: [number, number] }>;
    return 8 + headerSize + (header[name]?.data_offsets[0] ?? NaN);
  };

  test('a missing key', async () => {
    editWeights(({ tensors }) => tensors.delete(key));
    const error = await refusal();
    expect(error).toMatchObject({ file: path('broken'), key });
    expect(error.message).toContain('is missing');
  });

  test('an unexpected key', async () => {
    const more = 'backbone.layers.1.mixer.E';
    editWeights(({ tensors }) => tensors.set(more, { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }));
    const error = await refusal();
    expect(error).toMatchObject({ file: weights(), key: more, offset: offsetOf(more) });
    expect(error.message).toContain('is no parameter of the model that config.json describes');
  });

  test('a wrong shape', async () => {
    editWeights(({ tensors }) => {
      const old = tensors.get(key) ?? expect.fail('no such key');
      tensors.set(key, { ...old, shape: [...old.shape].reverse() });
    });
    const error = await refusal();
    expect(error).toMatchObject({ file: weights(), key, offset: offsetOf(key) });
    expect(error.message).toContain('has shape [40,13]; expected [13,40] from config.json');
  });

  test('dtype I32', async () => {
    editWeights(({ tensors }) => tensors.set(key, { ...(tensors.get(key) ?? expect.fail('no such key')), dtype: 'I32' }));
    const error = await refusal();
    expect(error).toMatchObject({ file: weights(), key, offset: offsetOf(key) });
    expect(error.message).toContain('has dtype I32; expected F32, F16, BF16 or F64');
  });

  test.each([1, 7, 300, -1, -5000])('a file cut off at byte %i', async (end) => {
    const bytes = readFileSync(weights());
    writeFileSync(weights(), bytes.subarray(0, end < 0 ? bytes.length + end : end));
    const error = await refusal();
    expect(error.file).toBe(weights());
    // Nothing has no place.
    if (end !== 0) expect(error.offset).toBeDefined();
    expect(error.message).toMatch(end === 0 ? /is empty \(0 bytes\)/ : /truncated|incomplete download|ends inside the header length/);
  });

  test('no config.json', async () => {
    rmSync(config());
    expect((await refusal()).message).toContain('no config.json beside the weights; expected one that says what the model is');
  });

  test('the config of another kind of model', async () => {
    editConfig({ model_type: 'mamba3' });
    const error = await refusal();
    expect(error).toMatchObject({ file: config(), key: 'model_type' });
    expect(error.message).toMatch(/is "mamba3"; expected "mamba", .*"falcon_mamba".* or "elapid-switch-transformer"/);
  });

  test('a config that is wrong is named even where the weights were given as a file', async () => {
    editConfig({ hidden_size: '20' });
    const error = await checkpointErrorOf(() => loadModel(weights(), backend()));
    expect(error).toMatchObject({ file: config(), key: 'hidden_size' });
    expect(error.message).toContain('is "20"; expected an integer from 1 to 16777216');
  });

  test('a config that describes more layers, fewer, or other sizes', async () => {
    for (const layers of [1, 3]) {
      editConfig({ num_hidden_layers: layers });
      const error = await refusal();
      expect(error).toMatchObject({ file: config(), key: 'num_hidden_layers' });
      expect(error.message).toContain(`is ${layers}; expected 2, the layers that the weights have`);
    }
    editConfig({ num_hidden_layers: 2, vocab_size: 24 });
    expect((await refusal()).message).toMatch(/embeddings\.weight', byte \d+: has shape \[23,20\]; expected \[24,20\]/);
  });

  test('a config that is not JSON', async () => {
    writeFileSync(config(), '{"model_type": "mamba",}');
    expect((await refusal()).file).toBe(config());
  });

  test('no folder, and one without weights', async () => {
    expect((await refusal('nowhere')).message).toContain('no such file or folder');
    mkdirSync(path('empty'), { recursive: true });
    expect((await refusal('empty')).message).toContain('the folder has no weights; expected model.safetensors or pytorch_model.bin');
  });

  test('and what was broken, mended, loads', async () => {
    (await loadModel(path('broken'), backend())).dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});
