/** Whatever the bytes, a loader either reads them or throws a CheckpointError: never another error, never no answer. */
import { describe, expect, it } from 'vitest';
import { parseSafetensors, safetensorsChunks } from '../../src/io/index.js';
import { readPytorchEntries } from '../../src/io/pytorch.js';
import { CheckpointError } from '../../src/util/errors.js';
import { concat, legacyTorchFile, memoryFile, pickled, zip } from './build.js';

/** A linear congruential generator (Numerical Recipes): the same mutations on every machine and run. */
function makeRandom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

function mutate(valid: Uint8Array, random: (limit: number) => number): Uint8Array {
  const bytes = valid.slice();
  const at = random(bytes.length);
  switch (random(5)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return concat(bytes.subarray(0, at), [random(256)], bytes.subarray(at));
    case 2:
      return concat(bytes.subarray(0, at), bytes.subarray(at + 1 + random(8)));
    case 3:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
      return bytes;
    default:
      bytes[at] = random(256);
      return bytes;
  }
}

const data = Uint8Array.from({ length: 24 }, (_, i) => i);

const safetensors = concat(
  ...safetensorsChunks(
    [
      { key: 'weight', dtype: 'F32', shape: [2, 2], sizeBytes: 16, bytes: () => data.subarray(0, 16) },
      { key: 'bias', dtype: 'U8', shape: [8], sizeBytes: 8, bytes: () => data.subarray(16) },
    ],
    { format: 'pt' },
  ),
);

const statedict = concat(
  pickled.global('collections', 'OrderedDict'),
  ')Rq',
  [0],
  '(',
  pickled.text('w'),
  pickled.tensor(pickled.storage('0', 6), 1, [2, 2], [2, 1]),
  pickled.text('v'),
  pickled.tensor(pickled.storage('1', pickled.long(4n), 'BFloat16Storage'), 0, [4], [1]),
  'u',
  pickled.dict(['_metadata', concat(']')]),
  'b',
);

const parts = [
  { name: 'a/data.pkl', data: pickled.file(pickled.dict(['epoch', pickled.int(1)], ['model', statedict])) },
  { name: 'a/byteorder', data: concat('little') },
  { name: 'a/data/0', data },
  { name: 'a/data/1', data: data.subarray(0, 8) },
];

const legacy = legacyTorchFile(statedict, { 0: { data, itemCount: 6 }, 1: { data: data.subarray(0, 8), itemCount: 4 } });

async function outcome(read: () => unknown): Promise<'read' | 'refused'> {
  try {
    await read();
    return 'read';
  } catch (error) {
    if (error instanceof CheckpointError) return 'refused';
    throw error;
  }
}

describe.each([
  ['safetensors', safetensors, (bytes: Uint8Array) => parseSafetensors(bytes)],
  ['torch.save', zip(parts), (bytes: Uint8Array) => readPytorchEntries(memoryFile(bytes))],
  ['torch.save with ZIP64', zip(parts, { zip64: true }), (bytes: Uint8Array) => readPytorchEntries(memoryFile(bytes))],
  // Without checksums, what they would catch has to be caught otherwise.
  ['torch.save without checksums', zip(parts.map((part) => ({ ...part, directory: { crc: 0 } }))), (bytes: Uint8Array) => readPytorchEntries(memoryFile(bytes))],
  ['old torch.save', legacy, (bytes: Uint8Array) => readPytorchEntries(memoryFile(bytes))],
])('mutations of a %s file', (_, valid, read) => {
  it('are read or refused', async () => {
    const random = makeRandom(20240131);
    const counts = { read: 0, refused: 0 };
    expect(await outcome(() => read(valid))).toBe('read');
    for (let i = 0; i < 4000; i++) {
      const bytes = mutate(valid, random);
      // Some mutations follow another, to get past the first check.
      counts[await outcome(() => read(i % 4 === 0 ? mutate(bytes, random) : bytes))]++;
    }
    // Both happen: a fuzz test that is always refused would only test the first check.
    expect(counts.read).toBeGreaterThan(100);
    expect(counts.refused).toBeGreaterThan(1000);
  });

  it('are refused when a byte is cut anywhere', async () => {
    for (let length = 0; length < valid.length; length++) {
      expect(await outcome(() => read(valid.slice(0, length))), String(length)).toBe('refused');
    }
  });

  it('are read or refused whichever byte is 0, 255 or one more', async () => {
    for (let at = 0; at < valid.length; at++) {
      for (const byte of [0, 255, (valid[at] ?? 0) + 1]) {
        const bytes = valid.slice();
        bytes[at] = byte;
        await outcome(() => read(bytes));
      }
    }
  });
});

describe('mutations of a pickle in a sound archive', () => {
  it('are read or refused', async () => {
    const random = makeRandom(7);
    const counts = { read: 0, refused: 0 };
    const pickle = parts[0]?.data ?? new Uint8Array(0);
    for (let i = 0; i < 4000; i++) {
      const archive = zip([{ name: 'a/data.pkl', data: mutate(pickle, random) }, ...parts.slice(1)]);
      counts[await outcome(() => readPytorchEntries(memoryFile(archive)))]++;
    }
    expect(counts.read).toBeGreaterThan(20);
    expect(counts.refused).toBeGreaterThan(1000);
  });
});
