import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { checksummedChunks, openCheckpoint, parseSafetensors, safetensorsChunks, verifySafetensors, type CheckpointEntry, type CheckpointOptions } from '../../src/io/index.js';
import { readPytorchEntries } from '../../src/io/pytorch.js';
import { checksumOf } from '../../src/util/checksum.js';
import { CheckpointError } from '../../src/util/errors.js';
import { absenceNote, sharedCase } from '../fixtures.js';
import { useFolder } from '../support/folders.js';
import { checkpointErrorOf, concat, memoryFile, pickled, torchArchive, zip } from './build.js';

const eight = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7).buffer);
const source = (key: string, bytes: Uint8Array, shape: number[]) => ({ key, dtype: 'F32' as const, shape, sizeBytes: bytes.length, bytes: () => bytes });
const own = concat(...(await checksummedChunks([source('a', eight, [2, 4]), source('b', eight.subarray(8), [6])], { format: 'pt', step: '7' })));

const flipped = (bytes: Uint8Array, at: number, bit = 0): Uint8Array => {
  const copy = Uint8Array.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << bit);
  return copy;
};

describe('checksums', () => {
  // Of xxHash's own test vectors (XXH3_128bits, seed 0) and of the check value that CRC catalogues give.
  it.each([
    ['xxh128', '', '99aa06d3014798d86001c324468d497f'],
    ['crc32', '123456789', 'cbf43926'],
    ['crc32', '', '00000000'],
  ] as const)('%s of %j', async (algorithm, text, expected) => {
    expect(await checksumOf(algorithm, new TextEncoder().encode(text))).toBe(expected);
  });

  it('of pieces are those of the whole, however many are under way', async () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * i) >> 3);
    const pieces = [bytes.subarray(0, 1), bytes.subarray(1, 70_001), bytes.subarray(70_001)];
    const all = await Promise.all(Array.from({ length: 6 }, (_, i) => checksumOf('crc32', i % 2 === 0 ? bytes : pieces)));
    expect(new Set(all)).toEqual(new Set([crc32(bytes).toString(16).padStart(8, '0')]));
  });
});

describe('safetensors with checksums', () => {
  const folder = useFolder();
  const written = (name: string, bytes: Uint8Array): string => {
    mkdirSync(folder(name));
    writeFileSync(folder(name, 'model.safetensors'), bytes);
    return folder(name);
  };
  const readAll = async (path: string, options?: CheckpointOptions) => {
    const checkpoint = await openCheckpoint(path, options);
    try {
      const read = async (entry: CheckpointEntry) => [entry.key, [...(await checkpoint.read(entry))]] as const;
      return Object.fromEntries(await Promise.all([...checkpoint.entries.values()].map(read)));
    } finally {
      await checkpoint.close();
    }
  };
  const sound = { a: [...eight], b: [...eight.subarray(8)] };

  it('are what they were without, but for a pair of strings', async () => {
    const { tensors, metadata } = parseSafetensors(own);
    expect([...tensors.keys()]).toEqual(['a', 'b']);
    expect(metadata).toEqual({ format: 'pt', step: '7' });
    const header = JSON.parse(new TextDecoder().decode(own.subarray(8, 8 + Number(new DataView(own.buffer).getBigUint64(0, true))))) as { __metadata__: Record<string, unknown> };
    expect(Object.entries(header.__metadata__).every(([, value]) => typeof value === 'string')).toBe(true);
    expect(await readAll(written('good', own))).toEqual(sound);
    expect(await readAll(folder('good'), { verify: true })).toEqual(sound);
  });

  it('tell any flipped bit', async () => {
    const expected = parseSafetensors(own);
    let same = 0;
    for (let at = 0; at < own.length; at++) {
      const bytes = flipped(own, at, at % 8);
      const outcome = await verifySafetensors(bytes).catch((error: unknown) => error);
      if (outcome instanceof CheckpointError) continue;
      // Some bits say nothing: spaces at the header's end; with the name of the checksums, these are lost, but nothing else.
      expect(outcome).toBeUndefined();
      const { tensors, metadata } = parseSafetensors(bytes);
      expect(tensors).toEqual(expected.tensors);
      expect(metadata).toMatchObject(expected.metadata);
      same++;
    }
    expect(same).toBeLessThan(30);
  });

  it.each<[string, number, string | undefined]>([
    ['the first tensor', own.length - 56, 'a'],
    ['the last', own.length - 1, 'b'],
    ['the metadata', own.indexOf(0x37), undefined],
  ])('name the file when a bit of %s is flipped, and the tensor', async (name, at, key) => {
    const path = written(name, flipped(own, at));
    const error = await checkpointErrorOf(() => readAll(path));
    expect(error).toMatchObject({ file: folder(name, 'model.safetensors'), key });
    expect(error.message).toMatch(/is damaged: its checksum is [0-9a-f]{32}; expected [0-9a-f]{32}, .* Hint: copy or download/);
    expect(Object.keys(await readAll(path, { verify: false }))).toEqual(['a', 'b']);
  });

  it('may be asked for', async () => {
    const { tensors } = parseSafetensors(own);
    const plain = concat(...safetensorsChunks([...tensors].map(([key, { bytes, shape }]) => source(key, bytes, [...shape]))));
    const path = written('plain', plain);
    expect(await readAll(path)).toEqual(sound);
    expect((await checkpointErrorOf(() => readAll(path, { verify: true }))).message).toMatch(/key 'a', .*no checksum of this tensor to verify it with/);
    const good = await openCheckpoint(folder('good'), { mapped: true, verify: true });
    const [entry] = good.entries.values();
    expect(await good.descriptor(entry as CheckpointEntry)).toBeTypeOf('number');
    await good.close();
    const damaged = await openCheckpoint(written('mapped', flipped(own, own.length - 1)), { mapped: true, verify: true });
    const [, last] = damaged.entries.values();
    expect((await checkpointErrorOf(() => damaged.descriptor(last as CheckpointEntry))).key).toBe('b');
    await damaged.close();
  });
});

describe("a torch.save archive's CRC-32", () => {
  const pickle = pickled.file(pickled.dict(['w', pickled.tensor(pickled.storage('0', 8), 0, [4], [1])], ['v', pickled.tensor(pickled.storage('0', 8), 4, [4], [1])]));
  const parts = [
    { name: 'a/data.pkl', data: pickle },
    { name: 'a/byteorder', data: concat('little') },
    { name: 'a/data/0', data: eight },
    { name: 'a/version', data: concat('3\n') },
  ];
  const good = zip(parts);
  const folder = useFolder();
  const readTensors = async (bytes: Uint8Array, options?: CheckpointOptions): Promise<void> => {
    writeFileSync(folder('x.bin'), bytes);
    const checkpoint = await openCheckpoint(folder('x.bin'), options);
    try {
      for (const entry of checkpoint.entries.values()) await checkpoint.read(entry);
    } finally {
      await checkpoint.close();
    }
  };

  it.each<[string, string, string]>([
    ['pickle', 'a/data.pkl', 'a/data.pkl'],
    ['byte order', 'a/byteorder', 'a/byteorder'],
    ['version', 'a/version', 'a/version'],
    ['storage, of which each tensor is a part', 'a/data/0', 'w'],
  ])('tells a flipped bit of the %s', async (_, entry, key) => {
    await readTensors(good);
    const { data } = parts.find(({ name }) => name === entry) as (typeof parts)[number];
    const at = Buffer.from(good).indexOf(data) + data.length - 1;
    const error = await checkpointErrorOf(() => readTensors(flipped(good, at)));
    expect(error.message).toContain(`the zip entry ${entry} is damaged: its checksum is`);
    expect(error.key).toBe(key);
  });

  it('that is 0 was not worked out', async () => {
    const uncounted = zip(parts.map((part) => ({ ...part, directory: { crc: 0 } })));
    await readTensors(uncounted);
    expect((await checkpointErrorOf(() => readTensors(uncounted, { verify: true }))).message).toContain('no checksum of this tensor');
  });

  it('is one in the directory and before the data', async () => {
    const bytes = zip([...parts.slice(0, 3), { name: 'a/version', data: concat('3\n'), local: { crc: 7 } }]);
    expect((await checkpointErrorOf(() => readPytorchEntries(memoryFile(bytes)))).message).toContain('contradicts the directory');
    expect((await readPytorchEntries(memoryFile(torchArchive(pickle, { 0: eight })))).size).toBe(2);
  });

  const shared = sharedCase('bin-one-bit-flipped/pytorch_model.bin');
  it.skipIf(shared === undefined)(`tells the flipped bit of a published file's like${absenceNote('../cases/bin-one-bit-flipped/pytorch_model.bin')}`, async () => {
    const error = await checkpointErrorOf(() => readTensors(readFileSync(shared as string)));
    expect(error.message).toMatch(/the zip entry \S+\/data\/\d+ is damaged/);
    await readTensors(readFileSync(shared as string), { verify: false });
  });
});
