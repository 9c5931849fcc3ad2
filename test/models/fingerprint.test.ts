import { copyFileSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { xxhash128 } from 'hash-wasm';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { prefill } from '../../src/generate/index.js';
import { parseSafetensors } from '../../src/io/index.js';
import { loadModel, LanguageModel, saveModel, State, mambaFamily } from '../../src/models/index.js';
import { packedParameters } from '../../src/models/packing.js';
import { initialParameters } from '../../src/nn/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { checkpointErrorOf, rewriteSafetensors } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { randomIds, smallConfig, smallModel } from '../support/models.js';

const ids = randomIds(12, 23);
const path = useFolder();
const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });

// The caches of whoever runs the tests are not ours.
beforeEach(() => vi.stubEnv('XDG_CACHE_HOME', path('cache')));
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** What a fingerprint is said to be: the hash of a line for each parameter. */
async function expectedOf(model: LanguageModel): Promise<string> {
  const line = async ({ key, tensor }: (typeof model.parameters)[number]) => {
    const values = await tensor.data();
    const bytes = values instanceof Uint8Array ? values : new Uint8Array(Float32Array.from(values).buffer);
    const dtype = values instanceof Uint8Array ? tensor.dtype : 'f32';
    return `${key} ${dtype} [${tensor.shape.join(',')}] ${await xxhash128(bytes)}`;
  };
  return xxhash128((await Promise.all(model.parameters.map(line))).sort().join('\n'));
}

async function fingerprintAndDispose(model: LanguageModel): Promise<string> {
  const fingerprint = await model.fingerprint();
  expect(fingerprint).toBe(await expectedOf(model));
  model.dispose();
  return fingerprint;
}

describe.each(['reference', ...compiledKernels] as const)('a fingerprint on %s', (kernels) => {
  const other = kernels === 'reference' ? useBackend('reference') : useBackend('cpu', { kernels });
  test('is that of the weights, whatever computes with them', async () => {
    const fingerprint = await fingerprintAndDispose(smallModel(other()));
    expect(await fingerprintAndDispose(smallModel(backend()))).toBe(fingerprint);
    expect(await fingerprintAndDispose(LanguageModel.initial(mambaFamily, smallConfig(), other(), 4))).not.toBe(fingerprint);
  });
});

describe('a fingerprint', () => {
  test('is the same from any file that holds the weights', async () => {
    const [transformers, official] = [await loadModel(goldenPath('hf-mamba'), backend()), await loadModel(goldenPath('state-spaces-mamba'), backend())];
    const fingerprint = await transformers.fingerprint();
    expect(await fingerprintAndDispose(official)).toBe(fingerprint);
    await saveModel(transformers, path('saved'));
    expect(await fingerprintAndDispose(transformers)).toBe(fingerprint);
    const saved = await loadModel(path('saved'), backend());
    const read = vi.spyOn(backend(), 'read');
    expect(await saved.fingerprint()).toBe(fingerprint);
    expect(read, 'the file has its checksums').not.toHaveBeenCalled();
    expect(await fingerprintAndDispose(saved)).toBe(fingerprint);
  });

  test('is another for weights in another format, and the same stored or packed on loading', async () => {
    const model = smallModel(backend());
    const packed = new LanguageModel(mambaFamily, model.config, backend(), packedParameters(initialParameters(backend(), 3), 'int8'));
    await saveModel(packed, path('int8'));
    await saveModel(model, path('f32'));
    const fingerprint = await fingerprintAndDispose(packed);
    expect(await fingerprintAndDispose(await loadModel(path('int8'), backend()))).toBe(fingerprint);
    expect(await fingerprintAndDispose(await loadModel(path('f32'), backend(), { dtype: 'bf16' }))).not.toBe(fingerprint);
    expect(await fingerprintAndDispose(model)).not.toBe(fingerprint);
  });

  test('changes with every weight that is written to, and comes back with the values', async () => {
    const made = smallModel(backend());
    await saveModel(made, path('written'));
    made.dispose();
    const model = await loadModel(path('written'), backend());
    const before = await model.fingerprint();
    for (const { key, tensor } of model.parameters) {
      const values = Float32Array.from(await tensor.data());
      const changed = values.slice();
      changed[values.length - 1] = (changed.at(-1) ?? 0) + 1;
      tensor.write(changed);
      expect(await model.fingerprint(), key).not.toBe(before);
      tensor.write(values);
      expect(await model.fingerprint(), key).toBe(before);
    }
    model.dispose();
  });
});

describe("another program's file", () => {
  const copied = (name: string): string => {
    mkdirSync(path(name));
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(goldenPath(`hf-mamba/${file}`), path(name, file));
    return path(name);
  };
  const entries = () => readdirSync(path('cache', 'elapid', 'fingerprints')).map((name) => path('cache', 'elapid', 'fingerprints', name));
  const identityOf = (file: string) => (JSON.parse(readFileSync(file, 'utf8')) as { identity: string }).identity;

  test('is read for its fingerprint once, as long as it is not written to', async () => {
    vi.stubEnv('XDG_CACHE_HOME', path('once'));
    const fingerprint = await fingerprintAndDispose(await loadModel(copied('first'), backend()));
    const again = await loadModel(path('first'), backend());
    const read = vi.spyOn(backend(), 'read');
    expect(await again.fingerprint()).toBe(fingerprint);
    expect(read).not.toHaveBeenCalled();
    again.dispose();
    utimesSync(path('first', 'model.safetensors'), 1e9, 1e9);
    const touched = await loadModel(path('first'), backend());
    expect(await touched.fingerprint()).toBe(fingerprint);
    expect(read).toHaveBeenCalled();
    touched.dispose();
  });

  test('has it kept for other processes, which believe no damaged cache', async () => {
    const fingerprint = await fingerprintAndDispose(await loadModel(copied('kept'), backend()));
    const kept = entries().find((file) => identityOf(file).startsWith(path('kept'))) ?? '';
    const made = 'f'.repeat(32);
    for (const [name, content, expected] of [
      ['good', (identity: string) => JSON.stringify({ identity, fingerprint: made }), made],
      ['other', () => JSON.stringify({ identity: 'another file', fingerprint: made }), fingerprint],
      ['damaged', () => '{"identity":', fingerprint],
      ['no-fingerprint', (identity: string) => JSON.stringify({ identity, fingerprint: 7 }), fingerprint],
    ] as const) {
      utimesSync(`${copied(name)}/model.safetensors`, 1e9, 1e9);
      const [, size = ''] = /model\.safetensors (\d+) /.exec(identityOf(kept)) ?? [];
      const identity = identityOf(kept).replace(/^.*\n/, `${path(name, 'model.safetensors')} ${size} 1000000000000\n`);
      writeFileSync(path('cache', 'elapid', 'fingerprints', `${await xxhash128(identity)}.json`), content(identity));
      const model = await loadModel(path(name), backend());
      expect(await model.fingerprint(), name).toBe(expected);
      model.dispose();
    }
  });

  test('has one where nothing can be kept', async () => {
    writeFileSync(path('no-folder'), '');
    vi.stubEnv('XDG_CACHE_HOME', path('no-folder'));
    await fingerprintAndDispose(await loadModel(copied('unkept'), backend()));
    expect(readFileSync(path('no-folder'), 'utf8')).toBe('');
  });
});

describe('a serialised state', () => {
  const serialised = async (model: LanguageModel): Promise<Uint8Array> => {
    const state = model.newState(1);
    await prefill(model, ids, state);
    const bytes = await state.serialize();
    state.dispose();
    return bytes;
  };

  test('is refused by other weights, and taken by the same of another file', async () => {
    const model = smallModel(backend());
    const bytes = await serialised(model);
    await saveModel(model, path('of-state'));
    expect(parseSafetensors(bytes).metadata['fingerprint']).toBe(await model.fingerprint());
    const same = await loadModel(path('of-state'), backend());
    const restored = await State.restore(same, bytes);
    expect(restored.position).toBe(ids.length);
    restored.dispose();
    const live = backend().statistics().liveBuffers;
    for (const [other, message] of [
      [LanguageModel.initial(mambaFamily, model.config, backend(), 4), /key '__metadata__\.fingerprint': the state was made with other weights of the same shapes/],
      [await loadModel(path('of-state'), backend(), { dtype: 'int8' }), /other weights of the same shapes/],
      [smallModel(backend(), { layers: 1 }), /key '1\.conv': is no part of this model’s state/],
      [smallModel(backend(), { layers: 3 }), /key '2\.conv': is missing; expected F32/],
      [smallModel(backend(), { dInner: 44 }), /key '0\.conv': is F32 \[1,2,40\]; expected F32 \[1,2,44\] for this model/],
    ] as const) {
      expect((await checkpointErrorOf(() => State.restore(other, bytes))).message).toMatch(message);
      other.dispose();
    }
    expect(backend().statistics().liveBuffers).toBe(live);
    for (const one of [model, same]) one.dispose();
  });

  test('is refused by its own model after a training step', async () => {
    const model = smallModel(backend());
    const bytes = await serialised(model);
    const { tensor } = (model.finalNorm as NonNullable<typeof model.finalNorm>).weight;
    tensor.write(Float32Array.from(await tensor.data(), (value) => value * 1.5));
    expect((await checkpointErrorOf(() => State.restore(model, bytes))).message).toMatch(/a model that was trained since/);
    model.dispose();
  });

  test('from before states had a fingerprint is taken', async () => {
    const model = smallModel(backend());
    const bytes = rewriteSafetensors(await serialised(model), ({ metadata }) => delete metadata['fingerprint']);
    (await State.restore(model, bytes)).dispose();
    model.dispose();
  });

  test.each([
    ['a value', (bytes: Uint8Array) => bytes.length - 1, '0.ssm'],
    ['the position', (bytes: Uint8Array) => Buffer.from(bytes).indexOf('"position":"') + 12, undefined],
  ] as const)('of which a bit of %s is flipped is refused', async (_, place, key) => {
    const model = smallModel(backend(), { layers: 1 });
    const bytes = await serialised(model);
    bytes[place(bytes)] = (bytes[place(bytes)] ?? 0) ^ 1;
    const error = await checkpointErrorOf(() => State.restore(model, bytes));
    expect(error.message).toContain('is damaged: its checksum is');
    expect(error.key).toBe(key);
    model.dispose();
  });
});
