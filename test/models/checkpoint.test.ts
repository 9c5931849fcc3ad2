import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseSafetensors, type StoredTensor } from '../../src/io/index.js';
import { loadModel, saveModel, type LanguageModel } from '../../src/models/index.js';
import type { HostArray } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { checkpointErrorOf, safetensorsFile } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, randomIds, read, smallModel } from '../support/models.js';

async function valuesOf(model: LanguageModel): Promise<Record<string, HostArray>> {
  const values: Record<string, HostArray> = {};
  for (const { key, tensor } of model.parameters) values[key] = await tensor.data();
  return values;
}

describe.each(compiledKernels)('checkpoints on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const path = useFolder();

  async function loadedValues(folder: string): Promise<Record<string, HostArray>> {
    const model = await loadModel(folder, backend());
    const values = await valuesOf(model);
    model.dispose();
    return values;
  }

  test.each([
    { name: 'the usual model', options: {} },
    { name: 'biases, a head of its own, no convolution bias', options: { projectionBias: true, convBias: false, tiedHead: false } },
    { name: 'layer norms, a head of its own, as MambaByte', options: { norm: 'layer' as const, tiedHead: false, endOfText: [3], initialisation: { dtMin: 0.01, dtInit: 'constant' as const } } },
    { name: 'layer norms and other sizes', options: { norm: 'layer' as const, dConv: 1, dInner: 36, dtRank: 7, normEpsilon: 1e-6, convBias: false, projectionBias: true } },
    { name: 'a time-invariant one', options: { ssm: 'lti' as const } },
    { name: 'other sizes', options: { dConv: 1, dInner: 36, dtRank: 7, normEpsilon: 1e-6, initialisation: { dtMin: 0.01, rescaleOutput: false } } },
  ])('saved and loaded to the bit: $name', async ({ name, options }) => {
    const folder = path(name);
    const model = smallModel(backend(), options);
    await saveModel(model, folder);
    const loaded = await loadModel(folder, backend());
    expect(loaded.config).toEqual(model.config);
    expect(loaded.parameters.map(({ key }) => key)).toEqual(model.parameters.map(({ key }) => key));
    expect(await valuesOf(loaded)).toEqual(await valuesOf(model));
    const ids = randomIds(12, 23);
    const logits = await read(() => model.forward(idTensor(backend(), ids, [1, 12])));
    expect(await read(() => loaded.forward(idTensor(backend(), ids, [1, 12])))).toEqual(logits);
    model.dispose();

    const before = readFileSync(path(name, 'model.safetensors'));
    await saveModel(loaded, folder);
    expect(readFileSync(path(name, 'model.safetensors')).equals(before)).toBe(true);
    loaded.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('the official dialect and transformers’ give the same parameters', async () => {
    const official = await loadModel(goldenPath('state-spaces-mamba'), backend());
    const transformers = await loadModel(goldenPath('hf-mamba'), backend());
    // Only how parameters would start, and which id ends a text, differs: transformers' config says, the official one does not.
    const unsaid = { initialisation: null, endOfText: null };
    expect({ ...official.config, ...unsaid }).toEqual({ ...transformers.config, ...unsaid });
    expect(await valuesOf(official)).toEqual(await valuesOf(transformers));
    for (const model of [official, transformers]) model.dispose();
  });

  test('a time-invariant model with layer norms cannot be saved, and nothing is written', async () => {
    const model = smallModel(backend(), { norm: 'layer', ssm: 'lti' });
    await expect(saveModel(model, path('layer-norm'))).rejects.toThrow(/norm is 'layer'; expected 'rms', the only one of time-invariant models in files/);
    await checkpointErrorOf(() => loadModel(path('layer-norm'), backend()));
    model.dispose();
  });

  test('shards with an index load; a shard that is missing is named', async () => {
    const whole = parseSafetensors(readFileSync(goldenPath('hf-mamba/model.safetensors'))).tensors;
    mkdirSync(path('shards'));
    writeFileSync(path('shards', 'config.json'), readFileSync(goldenPath('hf-mamba/config.json')));
    const shards = [new Map<string, StoredTensor>(), new Map<string, StoredTensor>()] as const;
    [...whole].forEach(([key, stored], i) => shards[i % 2 === 0 ? 0 : 1].set(key, stored));
    const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const weightMap = Object.fromEntries(shards.flatMap((shard, i) => [...shard.keys()].map((key) => [key, names[i]])));
    writeFileSync(path('shards', 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    writeFileSync(path('shards', names[0] ?? ''), safetensorsFile(shards[0]));
    const error = await checkpointErrorOf(() => loadModel(path('shards'), backend()));
    expect(error.message).toMatch(/model-00002-of-00002\.safetensors: the shard is missing; .*index\.json places \d+ tensors in it/);

    writeFileSync(path('shards', names[1] ?? ''), safetensorsFile(shards[1]));
    expect(await loadedValues(path('shards'))).toEqual(await loadedValues(goldenPath('hf-mamba')));
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});
