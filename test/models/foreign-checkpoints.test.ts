import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { generateText, generateTokens } from '../../src/generate/index.js';
import { fromFloat32, toFloat32, type StoredTensor } from '../../src/io/index.js';
import { loadModel, saveModel, type LanguageModel, type LoadOptions } from '../../src/models/index.js';
import { expectFiniteWeights, findBeyond } from '../../src/nn/finite.js';
import { tensor, type PackedDType } from '../../src/tensor/index.js';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import { evaluateSequence } from '../../src/train/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { sharedCase } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { checkpointErrorOf, rewriteSafetensors, type EditableContent } from '../support/checkpoints.js';
import { expectClose } from '../support/compare.js';
import { useFolder } from '../support/folders.js';
import { idTensor, randomIds, read, smallModel } from '../support/models.js';

const backend = useBackend('cpu');
const path = useFolder();
const [weights, config] = [() => path('model', 'model.safetensors'), () => path('model', 'config.json')];
const ids = randomIds(16, 23);
const [embeddingKey, headKey] = ['backbone.embeddings.weight', 'lm_head.weight'];
const inProj = 'backbone.layers.0.mixer.in_proj.weight';
let expected: ArrayLike<number> = [];

const logitsOf = (model: LanguageModel) => read(() => model.forward(idTensor(backend(), ids, [1, ids.length])));

beforeAll(async () => {
  const model = smallModel(backend());
  expected = await logitsOf(model);
  await saveModel(model, path('good'));
  model.dispose();
});

beforeEach(() => {
  rmSync(path('model'), { recursive: true, force: true });
  mkdirSync(path('model'));
  for (const file of ['config.json', 'model.safetensors']) copyFileSync(path('good', file), path('model', file));
});

const editWeights = (change: (content: EditableContent) => unknown) => {
  writeFileSync(weights(), rewriteSafetensors(readFileSync(weights()), change));
};

const editConfig = (change: Record<string, unknown>) => {
  writeFileSync(config(), JSON.stringify({ ...(JSON.parse(readFileSync(config(), 'utf8')) as object), ...change }));
};

/** Gives every key another name. */
const rename = (named: (key: string) => string) => {
  editWeights(({ tensors }) => {
    const all = [...tensors];
    tensors.clear();
    for (const [key, stored] of all) tensors.set(named(key), stored);
  });
};

const get = (tensors: EditableContent['tensors'], key: string): StoredTensor => tensors.get(key) ?? expect.fail(`no ${key}`);

const reshape = (key: string, shape: (from: readonly number[]) => readonly number[]) => {
  editWeights(({ tensors }) => tensors.set(key, { ...get(tensors, key), shape: shape(get(tensors, key).shape) }));
};

/** Numbers of another format in a tensor's place, changed. */
const editValues = (key: string, dtype: 'F64' | 'F32', change: (values: Float64Array) => unknown) => {
  editWeights(({ tensors }) => {
    const { bytes, shape, dtype: before } = get(tensors, key);
    const values = Float64Array.from(toFloat32(new Uint8Array(bytes), before));
    change(values);
    const changed = dtype === 'F64' ? new Uint8Array(values.buffer) : fromFloat32(Float32Array.from(values), dtype);
    tensors.set(key, { dtype, shape, bytes: changed });
  });
};

/** Loads, and gives the logits of `ids` and what was warned of. */
async function load(options: LoadOptions = {}) {
  const warnings: string[] = [];
  const model = await loadModel(path('model'), backend(), { onWarning: (message) => warnings.push(message), ...options });
  const logits = await logitsOf(model);
  const { endOfText, parameters, config: loaded } = model;
  const keys = parameters.map(({ key }) => key);
  model.dispose();
  return { logits, warnings, endOfText, keys, tiedHead: loaded.tiedHead };
}

async function refusal(): Promise<string> {
  const { message } = await checkpointErrorOf(() => load());
  expect(backend().statistics().liveBuffers).toBe(0);
  return message;
}

describe('keys', () => {
  const bare = (key: string) => key.replace(/^backbone\./, '');

  test.each<[string, (key: string) => string]>([
    ['module. of DistributedDataParallel', (key) => `module.${key}`],
    ['_orig_mod. of torch.compile', (key) => `_orig_mod.${key}`],
    ['model.', (key) => `model.${key}`],
    ['module._orig_mod.', (key) => `module._orig_mod.${key}`],
    ['_orig_mod.module.model.', (key) => `_orig_mod.module.model.${key}`],
    ['no backbone.', bare],
    ['module. and no backbone.', (key) => `module.${bare(key)}`],
    ['the official embedding', (key) => key.replace('.embeddings.', '.embedding.')],
    ['the official embedding without backbone.', (key) => bare(key).replace('embeddings.', 'embedding.')],
    ['mamba.py', (key) => bare(key).replace('embeddings.', 'embedding.').replace(/^layers/, 'mamba.layers')],
    ['MambaByte', (key) => key.replace('backbone.embeddings', 'mambabyte.token_embedding').replace('backbone.norm_f', 'mambabyte.final_norm').replace(/^backbone/, 'mambabyte')],
    ['a compiled backbone', (key) => key.replace(/^backbone\./, 'backbone._orig_mod.')],
    ['compiled layers', (key) => key.replace(/(layers\.\d+)\./, '$1._orig_mod.')],
  ])('%s', async (_, named) => {
    rename(named);
    expect(await load()).toMatchObject({ logits: expected, warnings: [] });
  });

  test('a head beside a backbone called model', async () => {
    editWeights(({ tensors }) => tensors.set(headKey, get(tensors, embeddingKey)));
    rename((key) => key.replace(/^backbone\./, 'model.'));
    expect(await load()).toMatchObject({ logits: expected, warnings: [], tiedHead: true });
  });

  test.each<[string, (key: string) => string, RegExp]>([
    ['module. on some', (key) => (key === inProj ? `module.${key}` : key), /key 'module\.backbone\.layers\.0\.mixer\.in_proj\.weight', byte \d+: has the prefix 'module\.backbone\.', and 'backbone\..*' has the prefix 'backbone\.'; expected one for all keys/],
    ['backbone. on all but one', (key) => (key === 'backbone.norm_f.weight' ? 'norm_f.weight' : key), /key 'norm_f\.weight', byte \d+: has no prefix, and 'backbone\..*' has the prefix 'backbone\.'; expected one for all keys/],
    ['a misspelt key', (key) => key.replace('layers.1.mixer.x_proj', 'layers.1.mixer.x_prj'), /is no parameter of the model that config\.json describes\. Hint: did you mean 'backbone\.layers\.1\.mixer\.x_proj\.weight'\?/],
    ['keys of Mamba-2', (key) => key.replace('1.mixer.x_proj.weight', '1.mixer.norm.weight'), /key 'backbone\.layers\.1\.mixer\.norm\.weight'.*Hint: such a key is that of Mamba-2/],
    ['keys of attention', (key) => key.replace('1.mixer.x_proj', '1.self_attn.q_proj'), /Hint: such a key is that of a model with attention layers/],
  ])('%s: refused', async (_, named, message) => {
    rename(named);
    expect(await refusal()).toMatch(message);
  });

  test('one parameter under two keys is refused', async () => {
    editWeights(({ tensors }) => tensors.set('backbone.embedding.weight', get(tensors, embeddingKey)));
    expect(await refusal()).toMatch(/is the same parameter as 'backbone\.embeddings\.weight'|is the same parameter as 'backbone\.embedding\.weight'/);
  });
});

describe('layouts', () => {
  const conv = 'backbone.layers.1.mixer.conv1d.weight';

  test.each<[string, (shape: readonly number[]) => number[]]>([
    ['MLX: [E,K,1]', ([channels = 0, one = 0, width = 0]) => [channels, width, one]],
    ['[E,K]', ([channels = 0, , width = 0]) => [channels, width]],
  ])('a filter %s', async (_, shape) => {
    reshape(conv, shape);
    expect(await load()).toMatchObject({ logits: expected, warnings: [] });
  });

  test('other shapes of the same size are refused', async () => {
    reshape(conv, ([channels = 0, , width = 0]) => [width, 1, channels]);
    expect(await refusal()).toMatch(/conv1d\.weight', byte \d+: has shape \[3,1,40\]; expected \[40,1,3\] from config\.json/);
  });
});

describe('the head', () => {
  const store = (values: (embedding: Float32Array) => Float32Array, dtype: 'F32' | 'F16' | 'F64' = 'F32') => {
    editWeights(({ tensors }) => {
      const { bytes, shape } = get(tensors, embeddingKey);
      tensors.set(headKey, { dtype, shape, bytes: fromFloat32(values(toFloat32(new Uint8Array(bytes), 'F32')), dtype) });
    });
  };
  const twice = (values: Float32Array) => values.map((value) => 2 * value);

  test.each(['F32', 'F64'] as const)('stored twice, equal, as %s: tied, in memory once', async (dtype) => {
    store((embedding) => embedding, dtype);
    const loaded = await load();
    expect(loaded).toMatchObject({ logits: expected, warnings: [], tiedHead: true });
    expect(loaded.keys).not.toContain(headKey);
  });

  test.each(['F32', 'F16', 'F64'] as const)('tied by the config, but another in the file, as %s: that of the file, and a warning', async (dtype) => {
    store((embedding) => twice(embedding).map((value) => Math.fround(Math.round(value * 256) / 256)), dtype);
    const { logits, warnings, tiedHead } = await load();
    expect(tiedHead).toBe(false);
    expect(warnings).toEqual([expect.stringMatching(/key 'lm_head\.weight': is not equal to the embedding, though config\.json ties them/)]);
    expect(Array.from(logits)).not.toEqual(Array.from(expected));
    editConfig({ tie_word_embeddings: false });
    expect(await load()).toMatchObject({ logits, warnings: [], tiedHead: false });
  });

  test('twice the embedding gives twice the logits', async () => {
    store(twice);
    const { logits } = await load();
    expectClose(logits, Array.from(expected, (logit) => 2 * logit), 1e-6, 'logits');
  });

  test('another shape is refused', async () => {
    editWeights(({ tensors }) => tensors.set(headKey, { dtype: 'F32', shape: [24, 20], bytes: new Uint8Array(4 * 24 * 20) }));
    expect(await refusal()).toMatch(/key 'lm_head\.weight', byte \d+: has shape \[24,20\], and the embedding \[23,20\]; expected the same, since config\.json ties them/);
  });

  test('untied without a head is refused', async () => {
    editConfig({ tie_word_embeddings: false });
    expect(await refusal()).toMatch(/key 'lm_head\.weight': is missing.*Hint: config\.json says that the head is not the embedding/);
  });

  test('what was untied by the file stays so when it is saved', async () => {
    store(twice);
    const { logits } = await load();
    const model = await loadModel(path('model'), backend(), { onWarning: () => undefined });
    await saveModel(model, path('model'));
    model.dispose();
    expect(await load()).toMatchObject({ logits, warnings: [], tiedHead: false });
  });
});

describe('what a config asks for is bounded by what the file holds', () => {
  test.each([1, 3, 4096])('%i layers of 2', async (layers) => {
    editConfig({ num_hidden_layers: layers });
    expect(await refusal()).toContain(`key 'num_hidden_layers': is ${layers}; expected 2, the layers that the weights have`);
  });

  test.each<[object, RegExp]>([
    [{ vocab_size: 2 ** 24 }, /embeddings\.weight', byte \d+: has shape \[23,20\]; expected \[16777216,20\]/],
    [{ state_size: 2048 }, /A_log', byte \d+: has shape \[40,5\]; expected \[40,2048\]/],
    [{ intermediate_size: 2 ** 20, expand: 2 ** 20 / 20 }, /expected \[1048576,5\]/],
    [{ time_step_rank: 2 ** 24 }, /expected \[16777226,40\]/],
  ])('%j', async (change, message) => {
    editConfig(change as Record<string, unknown>);
    expect(await refusal()).toMatch(message);
  });
});

describe('ids that end a text', () => {
  const tokenizer = new ByteTokenizer();

  test.each(['config.json', 'generation_config.json'])('%s: generation ends at each, and a saved model keeps them', async (file) => {
    const made = smallModel(backend(), { vocabularySize: 256 });
    await saveModel(made, path('model'));
    const drawn: number[] = [];
    for await (const id of generateTokens(made, tokenizer.encode('ab'), { temperature: 0, maxTokens: 12 })) drawn.push(id);
    made.dispose();
    const end = drawn[2] as number;
    if (file === 'config.json') editConfig({ eos_token_id: [255, end] });
    else writeFileSync(path('model', file), JSON.stringify({ eos_token_id: [255, end] }));
    const model = await loadModel(path('model'), backend());
    expect(model.endOfText).toEqual([255, end]);
    let text = '';
    for await (const piece of generateText(model, tokenizer, 'ab', { temperature: 0, maxTokens: 12 })) text += piece;
    expect(text).toBe(tokenizer.decode(drawn.slice(0, drawn.indexOf(end))));
    await saveModel(model, path('model', 'saved'));
    model.dispose();
    expect(JSON.parse(readFileSync(path('model', 'saved', 'config.json'), 'utf8'))).toMatchObject({ eos_token_id: [255, end] });
  });
});

describe('weights that are no numbers', () => {
  const spoil = (key: string, ...values: number[]) => editValues(key, 'F32', (all) => values.forEach((value, i) => (all[21 + i] = value)));
  const problem = "the weight 'backbone.layers.0.mixer.in_proj.weight' holds 1 value that is not finite (of 1600), the first NaN at [1,1]";

  test.each<[string, () => unknown, string]>([
    ['NaN', () => spoil(inProj, NaN), problem],
    ['two infinities', () => spoil(inProj, -Infinity, Infinity), "in_proj.weight' holds 2 values that are not finite (of 1600), the first -Infinity at [1,1]"],
    ['one of a vector', () => editValues('backbone.layers.1.norm.weight', 'F32', (all) => (all[19] = NaN)), "'backbone.layers.1.norm.weight' holds 1 value that is not finite (of 20), the first NaN at [19]"],
  ])('%s: evaluation and generation name the weight', async (_, damage, message) => {
    damage();
    const model = await loadModel(path('model'), backend());
    try {
      await expect(evaluateSequence(model, ids)).rejects.toThrow(`evaluate: `);
      await expect(evaluateSequence(model, ids)).rejects.toThrow(message);
      const generate = () => generateTokens(model, ids).next();
      await expect(generate()).rejects.toThrow(ArgumentError);
      await expect(generate()).rejects.toThrow(message);
    } finally {
      model.dispose();
    }
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test.each(['bf16', 'int8', 'int4'] satisfies PackedDType[])('%s: what cannot be packed is named while it is loaded', async (dtype) => {
    spoil(inProj, NaN);
    const { message } = await checkpointErrorOf(() => load({ dtype }));
    expect(message).toContain(`in_proj.weight', byte `);
    expect(message).toContain(`holds 1 value that is not finite (of 1600), the first NaN at [1,1]; it cannot become ${dtype}`);
    expect(backend().statistics().liveBuffers).toBe(0);
    spoil(inProj, 0);
    spoil('backbone.layers.0.mixer.x_proj.weight', 3.4e38);
    expect((await checkpointErrorOf(() => load({ dtype }))).message).toMatch(/x_proj\.weight', byte \d+: holds 1 value of 3\.39\d*e\+38 or more \(of 520\), the first 3\.399\d*e\+38 at \[0,21\]; it cannot become/);
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test.each([
    [[1, -65504, 65519], 65520, undefined],
    [[1, 65520, -7e4], 65520, '2 values of 65520 or more (of 3), the first 65520 at [1]'],
    [[1, 65520, NaN], 65520, '1 value that is not finite (of 3), the first NaN at [2]'],
    [[3e38, -3e38, 3e38], Infinity, undefined],
  ])('%j, which have to stay below %d', async (values, limit, found) => {
    const made = tensor(backend(), values, [3]);
    expect(await findBeyond(made, limit)).toBe(found);
    made.dispose();
  });

  test('large sums of packed ones are no fault', async () => {
    spoil(inProj, 1e38, 1e38, -1e38);
    const model = await loadModel(path('model'), backend(), { dtype: 'int8' });
    await expectFiniteWeights('test', model.parameters);
    model.dispose();
  });

  test('doubles beyond the floats are refused, those that are infinite already are not the conversion’s', async () => {
    editValues(inProj, 'F64', (all) => {
      all[41] = 1e39;
      all[42] = -Infinity;
    });
    expect(await refusal()).toMatch(/in_proj\.weight', byte \d+: holds 1 value of 3\.4028\d*e\+38 or more \(of 1600\), the first 1e\+39 at \[2,1\]; it cannot become f32/);
    editValues(inProj, 'F64', (all) => {
      for (const at of [41, 42]) all[at] = -Infinity;
    });
    const model = await loadModel(path('model'), backend());
    await expect(evaluateSequence(model, ids)).rejects.toThrow('holds 2 values that are not finite (of 1600), the first -Infinity at [2,1]');
    model.dispose();
  });
});

describe('cases from elsewhere', () => {
  const cases = ['base', 'prefix-module', 'tied-but-another-lm-head'] as const;

  for (const name of cases) {
    const folder = sharedCase(name);
    test.skipIf(folder === undefined)(`${name}${folder === undefined ? ' [skipped: ../shared/cases is absent]' : ''}`, async () => {
      const right = JSON.parse(readFileSync(`${folder ?? ''}/expected.json`, 'utf8')) as Record<'ids' | 'argmax_each' | 'last_logits_first16', number[]>;
      const warnings: string[] = [];
      const model = await loadModel(folder ?? '', backend(), { onWarning: (message) => warnings.push(message) });
      const logits = Array.from(await read(() => model.forward(idTensor(backend(), right.ids, [1, right.ids.length]))));
      model.dispose();
      const rows = right.ids.map((_, i) => logits.slice(256 * i, 256 * (i + 1)));
      expect(rows.map((row) => row.indexOf(Math.max(...row)))).toEqual(right.argmax_each);
      expectClose(rows.at(-1)?.slice(0, 16) ?? [], right.last_logits_first16, 1e-5, 'logits');
      expect(warnings.length).toBe(name === 'tied-but-another-lm-head' ? 1 : 0);
    });
  }
});
