import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCheckpoint, safetensorsChunks, toFloat32 } from '../../src/io/index.js';
import { platform } from '../../src/platform/node.js';
import { CheckpointError, DisposedError } from '../../src/util/errors.js';
import { checkpointErrorOf, concat, pickled, torchArchive } from './build.js';

const goldens = fileURLToPath(new URL('../fixtures/goldens/', import.meta.url));

let folder = '';
let file = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'elapid-io-'));
  file = join(folder, 'model.safetensors');
});
afterEach(() => rm(folder, { recursive: true }));

/** A safetensors file with one-number tensors. */
function tensors(values: Record<string, number>, metadata: Record<string, string> = {}): Uint8Array {
  const sources = Object.entries(values).map(([key, value]) => ({
    key,
    dtype: 'F32' as const,
    shape: [1],
    sizeBytes: 4,
    bytes: () => new Uint8Array(Float32Array.of(value).buffer),
  }));
  return concat(...safetensorsChunks(sources, metadata));
}

function put(name: string, content: Uint8Array | string): Promise<void> {
  return writeFile(join(folder, name), content);
}

/** Opens, reads every tensor as its first number, closes. */
async function valuesOf(path: string): Promise<Record<string, number | undefined>> {
  const checkpoint = await openCheckpoint(path);
  const values: Record<string, number | undefined> = {};
  for (const [key, entry] of checkpoint.entries) values[key] = toFloat32(await checkpoint.read(entry), entry.dtype)[0];
  await checkpoint.close();
  return values;
}

function torchFile(key: string, value: number): Uint8Array {
  const tensor = pickled.tensor(pickled.storage('0', 1), 0, [1], [1]);
  return torchArchive(pickled.file(pickled.dict([key, tensor])), { 0: new Uint8Array(Float32Array.of(value).buffer) });
}

describe('openCheckpoint', () => {
  it('opens a folder as transformers saves it', async () => {
    const checkpoint = await openCheckpoint(`${goldens}hf-mamba`);
    expect(checkpoint.name).toBe(`${goldens}hf-mamba`);
    expect(checkpoint.config).toMatchObject({ model_type: 'mamba', hidden_size: 32 });
    expect(checkpoint.metadata).toEqual({ format: 'pt' });
    const entry = checkpoint.entries.get('backbone.layers.0.mixer.conv1d.weight');
    expect(entry).toMatchObject({ dtype: 'F32', shape: [64, 1, 4], sizeBytes: 1024 });
    if (entry === undefined) throw new Error('no entry');
    // The offset must be good for mapping the file: compare with the file's own bytes.
    const whole = await readFile(entry.file);
    expect(await checkpoint.read(entry)).toEqual(new Uint8Array(whole.subarray(entry.offset, entry.offset + 1024)));
    await checkpoint.close();
  });

  it('opens the folder of the official repository, where the file is a torch.save archive', async () => {
    const checkpoint = await openCheckpoint(`${goldens}state-spaces-mamba`);
    expect(checkpoint.config).toMatchObject({ d_model: 32 });
    expect(checkpoint.entries.get('backbone.embedding.weight')).toMatchObject({ dtype: 'F32', shape: [97, 32] });
    await checkpoint.close();
  });

  it('opens single files, with or without a config beside them', async () => {
    for (const ending of ['bin', 'pt', 'pth']) await put(`x.${ending}`, torchFile('w', 5));
    await put('x.safetensors', tensors({ w: 6 }));
    const without = await openCheckpoint(join(folder, 'x.safetensors'));
    expect(without.config).toBeUndefined();
    await without.close();
    await put('config.json', '{"d_model":1}');
    const withConfig = await openCheckpoint(join(folder, 'x.pth'));
    expect(withConfig.config).toEqual({ d_model: 1 });
    await withConfig.close();
    for (const ending of ['bin', 'pt', 'pth']) expect(await valuesOf(join(folder, `x.${ending}`))).toEqual({ w: 5 });
    expect(await valuesOf(join(folder, 'x.safetensors'))).toEqual({ w: 6 });
  });

  it('joins safetensors shards', async () => {
    await put('model-1.safetensors', tensors({ a: 1, b: 2 }, { format: 'pt' }));
    await put('model-2.safetensors', tensors({ c: 3 }, { part: 'two' }));
    const map = { a: 'model-1.safetensors', c: 'model-2.safetensors', b: 'model-1.safetensors' };
    await put('model.safetensors.index.json', JSON.stringify({ metadata: { total_size: 12 }, weight_map: map }));
    expect(await valuesOf(folder)).toEqual({ a: 1, b: 2, c: 3 });
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.metadata).toEqual({ format: 'pt', part: 'two' });
    await checkpoint.close();
  });

  const index = (map: Record<string, string>, more: object = {}) => JSON.stringify({ ...more, weight_map: map });
  it.each<[string, string, Record<string, number>, string[]]>([
    ['lists a tensor that no shard holds', index({ a: '1.safetensors', 'lm_head.weight': '1.safetensors', b: '2.safetensors' }), { a: 1, b: 2 }, ['lm_head.weight']],
    ['places a tensor in another shard', index({ a: '2.safetensors', b: '1.safetensors' }), { a: 1, b: 2 }, []],
    ['leaves a tensor out', '{"weight_map":{"a":"1.safetensors","__proto__":"2.safetensors"}}', { a: 1, b: 2 }, ['__proto__']],
    ['has a wrong total size', index({ a: '1.safetensors', b: '2.safetensors' }, { metadata: { total_size: 7 } }), { a: 1, b: 2 }, []],
    ['has a shard that holds a tensor a second time', index({ a: '1.safetensors', b: '2.safetensors', c: '3.safetensors' }), { a: 1, b: 2, c: 3 }, []],
  ])('takes the shards at their word when the index %s', async (_, text, expected, absent) => {
    await put('1.safetensors', tensors({ a: 1 }));
    await put('2.safetensors', tensors({ b: 2 }));
    await put('3.safetensors', tensors({ c: 3, a: 1 }));
    await put('model.safetensors.index.json', text);
    expect(await valuesOf(folder)).toEqual(expected);
    const checkpoint = await openCheckpoint(folder);
    expect([...checkpoint.absent.keys()]).toEqual(absent);
    await checkpoint.close();
  });

  it.each<[string, Uint8Array]>([
    ['value', tensors({ b: 2, a: 1.5 })],
    ['shape', concat(...safetensorsChunks([{ key: 'a', dtype: 'F32', shape: [2], sizeBytes: 8, bytes: () => new Uint8Array(8) }]))],
    ['dtype', concat(...safetensorsChunks([{ key: 'a', dtype: 'I32', shape: [1], sizeBytes: 4, bytes: () => new Uint8Array([0, 0, 128, 63]) }]))],
  ])('refuses shards that hold one tensor with another %s', async (_, second) => {
    await put('1.safetensors', tensors({ a: 1 }));
    await put('2.safetensors', second);
    await put('model.safetensors.index.json', index({ a: '1.safetensors', b: '2.safetensors' }));
    const error = await checkpointErrorOf(() => openCheckpoint(folder));
    expect(error.message).toContain(`the tensor is in ${join(folder, '1.safetensors')} as well, and differs there`);
    expect(error).toMatchObject({ file: join(folder, '2.safetensors'), key: 'a' });
  });

  it('joins PyTorch shards', async () => {
    await put('pytorch_model-1.bin', torchFile('a', 1));
    await put('pytorch_model-2.bin', torchFile('b', 2));
    const map = { a: 'pytorch_model-1.bin', b: 'pytorch_model-2.bin' };
    await put('pytorch_model.bin.index.json', JSON.stringify({ weight_map: map }));
    expect(await valuesOf(folder)).toEqual({ a: 1, b: 2 });
  });

  it('prefers safetensors to PyTorch, and one file to shards', async () => {
    await put('pytorch_model.bin', torchFile('w', 1));
    expect(await valuesOf(folder)).toEqual({ w: 1 });
    await put('model.safetensors.index.json', JSON.stringify({ weight_map: { w: 's.safetensors' } }));
    await put('s.safetensors', tensors({ w: 2 }));
    expect(await valuesOf(folder)).toEqual({ w: 2 });
    await put('model.safetensors', tensors({ w: 3 }));
    expect(await valuesOf(folder)).toEqual({ w: 3 });
  });

  it('opens a folder whose name ends like a file', async () => {
    await mkdir(join(folder, 'run.pt'));
    await put('run.pt/model.safetensors', tensors({ w: 4 }));
    expect(await valuesOf(join(folder, 'run.pt'))).toEqual({ w: 4 });
  });

  it("reads the infinities of Python's JSON in a config", async () => {
    const mamba2 = JSON.parse(await readFile(`${goldens}hf-mamba2/config.json`, 'utf8')) as { time_step_limit: unknown };
    expect(mamba2.time_step_limit).toEqual([0, { __float__: 'Infinity' }]); // transformers 5
    await put('model.safetensors', tensors({}));
    await put('config.json', JSON.stringify(mamba2));
    const newer = await openCheckpoint(folder);
    expect(newer.config).toMatchObject({ time_step_limit: [0, Infinity] });
    await newer.close();
    await put('config.json', '{"time_step_limit": [0.0, Infinity], "low": -Infinity, "text": "Infinity \\" Infinity"}');
    const older = await openCheckpoint(folder);
    expect(older.config).toEqual({ time_step_limit: [0, Infinity], low: -Infinity, text: 'Infinity " Infinity' });
    await older.close();
  });
});

describe('Checkpoint', () => {
  it('refuses to read after close, and closes twice', async () => {
    await put('model.safetensors', tensors({ w: 1 }));
    const checkpoint = await openCheckpoint(folder);
    const entry = checkpoint.entries.get('w');
    if (entry === undefined) throw new Error('no entry');
    await checkpoint.close();
    await checkpoint.close();
    await expect(checkpoint.read(entry)).rejects.toThrow(DisposedError);
    await expect(checkpoint.read(entry)).rejects.toThrow(/is closed; expected it open to read 'w'/);
  });

  it('refuses entries of other checkpoints, and ranges outside the file', async () => {
    await put('model.safetensors', tensors({ w: 1 }));
    const checkpoint = await openCheckpoint(folder);
    const entry = checkpoint.entries.get('w');
    if (entry === undefined) throw new Error('no entry');
    await expect(checkpoint.read({ ...entry, file: '/etc/passwd' })).rejects.toThrow(/another checkpoint/);
    await expect(checkpoint.read({ ...entry, sizeBytes: 2 ** 50 })).rejects.toThrow(CheckpointError);
    await checkpoint.close();
  });

  it('says so when the file is cut while it is open', async () => {
    await put('model.safetensors', tensors({ w: 1 }));
    const checkpoint = await openCheckpoint(folder);
    const entry = checkpoint.entries.get('w');
    if (entry === undefined) throw new Error('no entry');
    await put('model.safetensors', '');
    const error = await checkpointErrorOf(() => checkpoint.read(entry));
    expect(error.message).toMatch(/the tensor cannot be read: .*became shorter/);
    expect(error).toMatchObject({ file, key: 'w', offset: entry.offset });
    await checkpoint.close();
  });
});

/** Shards 'a.safetensors' (a) and 'b.safetensors' (b) under this index text. */
async function openIndex(index: string): Promise<unknown> {
  await put('a.safetensors', tensors({ a: 1 }));
  await put('b.safetensors', tensors({ b: 1 }));
  await writeFile(join(folder, '..', 'elapid-outside.safetensors'), tensors({ a: 1 }));
  try {
    await put('model.safetensors.index.json', index);
    return await openCheckpoint(folder);
  } finally {
    await rm(join(folder, '..', 'elapid-outside.safetensors'));
  }
}

const place = (a: string) => `{"weight_map":{"a":${JSON.stringify(a)},"b":"b.safetensors"}}`;

describe('hostile folders', () => {
  it.each<[string, string, RegExp, string | undefined]>([
    ['is not JSON', '{', /not valid JSON/, undefined],
    ['is a list', '[]', /is an array; expected an object/, undefined],
    ['is null', 'null', /is null; expected an object/, undefined],
    ['has no weight_map', '{}', /weight_map is undefined/, undefined],
    ['has a list for weight_map', '{"weight_map":[]}', /weight_map is \[\]/, undefined],
    ['has a key twice', '{"weight_map":{"a":"a.safetensors","b":"b.safetensors","a":"b.safetensors"}}', /this key twice/, 'a'],
    ['has a number for a shard', '{"weight_map":{"a":1}}', /the shard is 1; expected a plain file name/, 'a'],
    ['leaves the folder', place('../elapid-outside.safetensors'), /'\.\.\/elapid-outside.safetensors'; expected a plain/, 'a'],
    ['leaves the folder on Windows', place('..\\elapid-outside.safetensors'), /expected a plain file name/, 'a'],
    ['names an absolute path', place('/etc/passwd'), /expected a plain file name/, 'a'],
    ['names a URL', place('https://example.org/a.safetensors'), /expected a plain file name/, 'a'],
    ['names an encoded path', place('..%2felapid-outside.safetensors'), /expected a plain file name/, 'a'],
    ['names a drive', place('C:a.safetensors'), /expected a plain file name/, 'a'],
    ['names a query', place('a.safetensors?x'), /expected a plain file name/, 'a'],
    ['names a line feed', place('a.safetensors\n'), /expected a plain file name/, 'a'],
    ['names a NUL', place('a.safetensors\0'), /expected a plain file name/, 'a'],
    ['names the parent', place('..'), /expected a plain file name/, 'a'],
    ['names nothing', place(''), /expected a plain file name/, 'a'],
    ['names itself', place('model.safetensors.index.json'), /is not a weight file/, undefined],
  ])('refuses an index that %s', async (_, index, message, key) => {
    const error = await checkpointErrorOf(() => openIndex(index));
    expect(error.message).toMatch(message);
    expect(error.file).toBe(join(folder, 'model.safetensors.index.json'));
    expect(error.key).toBe(key);
  });

  it('refuses a shard that is missing', async () => {
    const error = await checkpointErrorOf(() => openIndex(place('c.safetensors')));
    expect(error.message).toMatch(/the shard is missing; .* places 1 tensors in it/);
    expect(error.file).toBe(join(folder, 'c.safetensors'));
  });

  it('names the shard that is damaged', async () => {
    await put('c.safetensors', tensors({ a: 1 }).slice(0, -1));
    const error = await checkpointErrorOf(() => openIndex(place('c.safetensors')));
    expect(error).toMatchObject({ file: join(folder, 'c.safetensors'), key: 'a' });
  });

  it.each<[string, () => Promise<string>, RegExp]>([
    ['a path that does not exist', () => Promise.resolve(join(folder, 'none')), /no such file or folder/],
    ['a file that does not exist', () => Promise.resolve(join(folder, 'none.bin')), /none\.bin: no such file or folder$/],
    ['an empty folder', () => Promise.resolve(folder), /the folder has no weights; expected model\.safetensors or/],
    ['another kind of file', () => put('x.onnx', 'x').then(() => join(folder, 'x.onnx')), /ends in none of/],
  ])('refuses %s', async (_, makePath, message) => {
    const path = await makePath();
    const error = await checkpointErrorOf(() => openCheckpoint(path));
    expect(error.message).toMatch(message);
    expect(error.file).toBe(path);
  });

  it.each<[string, string | Uint8Array, RegExp]>([
    ['is not JSON', '{"d_model": }', /not valid JSON/],
    ['is not an object', '7', /is a number; expected an object/],
    ['has a key twice', '{"d_model":1,"d_model":2}', /key 'd_model', byte 13: the JSON object has this key twice/],
    ['is not UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), /not valid UTF-8/],
    ['nests without end', '{"a":'.repeat(300_000) + '1' + '}'.repeat(300_000), /not valid JSON/],
  ])('refuses a config that %s', async (_, config, message) => {
    await put('model.safetensors', tensors({ w: 1 }));
    await put('config.json', config);
    const error = await checkpointErrorOf(() => openCheckpoint(folder));
    expect(error.message).toMatch(message);
    expect(error.file).toBe(join(folder, 'config.json'));
  });

  it('closes every file when opening fails', async () => {
    const open = platform.openFile.bind(platform);
    let openFiles = 0;
    platform.openFile = async (path) => {
      const opened = await open(path);
      openFiles++;
      return {
        ...opened,
        close() {
          openFiles--;
          return opened.close();
        },
      };
    };
    try {
      await checkpointErrorOf(() => openIndex('{"weight_map":{"a":"a.safetensors","b":"b.safetensors","c":"c.safetensors"}}'));
      expect(openFiles).toBe(0);
    } finally {
      platform.openFile = open;
    }
  });
});
