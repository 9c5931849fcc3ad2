import { describe, expect, test } from 'vitest';
import { ignoredTarget, packedPass, PackedSampler, splitDocuments, type PackedBatch, type PackedSamplerState } from '../../src/data/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';

const lengths = [1, 5, 40, 3, 0, 17, 8, 2, 9, 64, 1, 33];
const shape = { batchSize: 3, length: 8 };

/** Documents whose tokens say which they are and where: 1000·document + position. */
const telling = () => new MemoryDocuments(lengths.map((length, d) => Int32Array.from({ length }, (_, i) => 1000 * d + i)));

/** The documents that the rows of `batches` hold, row by row, and whether each is whole; checks targets on the way. */
function unpack(batches: readonly PackedBatch[], { batchSize, length } = shape): { document: number; whole: boolean }[] {
  const found: { document: number; whole: boolean }[] = [];
  for (let row = 0; row < batchSize; row++) {
    const cut = (pick: (batch: PackedBatch) => Int32Array) => batches.flatMap((b) => [...pick(b).subarray(row * length, (row + 1) * length)]);
    const [inputs, targets, starts] = [cut((b) => b.inputs), cut((b) => b.targets), cut((b) => b.starts)];
    let next: number | undefined;
    inputs.forEach((input, i) => {
      if (starts[i] === 1) {
        expect(input % 1000).toBe(0);
        expect(next).toBe(undefined);
        found.push({ document: input / 1000, whole: false });
      } else if (next !== undefined) expect(input).toBe(next);
      const last = input % 1000 === (lengths[Math.floor(input / 1000)] ?? 0) - 1;
      if (starts[i] === 0 && next === undefined) expect([input, targets[i]]).toEqual([0, ignoredTarget]);
      else {
        expect(targets[i]).toBe(last ? ignoredTarget : input + 1);
        if (last) found.push({ document: (found.pop() as { document: number }).document, whole: true });
      }
      next = targets[i] === ignoredTarget ? undefined : targets[i];
    });
  }
  return found;
}

async function take(sampler: PackedSampler, count: number): Promise<PackedBatch[]> {
  const batches = [];
  for (let i = 0; i < count; i++) batches.push(await sampler.next());
  return batches;
}

describe('PackedSampler', () => {
  test('rows are full; documents follow one another and go on from row to row', async () => {
    const batches = await take(new PackedSampler(telling(), { ...shape, seed: 1 }), 60);
    const found = unpack(batches);
    expect(found.filter(({ whole }) => !whole).length).toBeLessThanOrEqual(shape.batchSize);
    const marks = batches.flatMap(({ starts, inputs }) => [...inputs].filter((_, i) => starts[i] === 1).map((input) => input / 1000));
    expect(new Set(marks).size).toBe(lengths.filter((length) => length > 0).length);
  });

  test('an epoch takes each document exactly once, in an order of its own', async () => {
    const order: number[] = [];
    const source = telling();
    const recording = { ...shape, seed: 5 };
    const sampler = new PackedSampler(
      { count: source.count, fingerprint: '', close: () => source.close(), open: (i) => (order.push(i), source.open(i)) },
      recording,
    );
    while (order.length < 5 * lengths.length) await sampler.next();
    const epochs = [0, 1, 2, 3, 4].map((epoch) => order.slice(epoch * lengths.length, (epoch + 1) * lengths.length));
    for (const epoch of epochs) expect([...epoch].sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
    expect(new Set(epochs.map((epoch) => epoch.join())).size).toBe(5);
  });

  test('depends on the seed alone', async () => {
    const make = (seed: number) => take(new PackedSampler(telling(), { ...shape, seed }), 20);
    expect(await make(1)).toEqual(await make(1));
    expect(await make(1)).not.toEqual(await make(2));
  });

  test('goes on from every state exactly', async () => {
    const whole = new PackedSampler(telling(), { ...shape, seed: 4 });
    const states: PackedSamplerState[] = [];
    const batches: PackedBatch[] = [];
    for (let i = 0; i < 30; i++) {
      states.push(JSON.parse(JSON.stringify(whole.state())) as PackedSamplerState);
      batches.push(await whole.next());
    }
    for (const [i, state] of states.entries()) {
      const resumed = new PackedSampler(telling(), { ...shape, seed: 99 });
      resumed.restore(state);
      expect(resumed.state()).toEqual(state);
      expect(await take(resumed, 30 - i)).toEqual(batches.slice(i));
      expect(resumed.state()).toEqual(whole.state());
    }
  });

  test('refuses a state of other documents or another shape and stays where it was', async () => {
    const sampler = new PackedSampler(telling(), { ...shape, seed: 4 });
    await take(sampler, 3);
    const state = sampler.state();
    expect(() => sampler.restore({ ...state, slots: state.slots.slice(1) })).toThrow(/state\.slots\.length is 2.*another batch size/);
    expect(() => sampler.restore({ ...state, position: 99 })).toThrow(/state\.position is 99/);
    expect(() => sampler.restore({ ...state, slots: [[99, 0], null, null] })).toThrow(ArgumentError);
    expect(sampler.state()).toEqual(state);
  });

  test('reads what its rows hold, and one token more where a document goes on', async () => {
    const source = new MemoryDocuments(randomDocuments([100_000, 100_000, 100_000, 100_000]));
    const sampler = new PackedSampler(source, { ...shape, seed: 1 });
    await take(sampler, 10);
    expect(source.opened).toBe(3);
    expect(source.reads.reduce((sum, read) => sum + read)).toBe(10 * 3 * (8 + 1));
  });

  test('refuses documents that are all empty, and no documents', async () => {
    await expect(new PackedSampler(new MemoryDocuments(randomDocuments([0, 0])), { ...shape, seed: 1 }).next()).rejects.toThrow(/empty, all of them/);
    expect(() => new PackedSampler(new MemoryDocuments([]), { ...shape, seed: 1 })).toThrow(/number of documents is 0/);
  });
});

describe('packedPass', () => {
  test('holds every document whole, once, in order', async () => {
    const batches = [];
    for await (const batch of packedPass(telling(), shape)) batches.push(batch);
    const found = unpack(batches);
    expect(found.every(({ whole }) => whole)).toBe(true);
    expect(found.map(({ document }) => document).sort((a, b) => a - b)).toEqual(lengths.flatMap((length, d) => (length > 0 ? [d] : [])));
    const targets = batches.flatMap((batch) => [...batch.targets]).filter((target) => target !== ignoredTarget);
    expect(targets.length).toBe(lengths.reduce((sum, length) => sum + Math.max(0, length - 1), 0));
  });
});

describe('splitDocuments', () => {
  test.each([
    { count: 40, share: 0.1, held: [9, 19, 29, 39] },
    { count: 7, share: 0.5, held: [1, 3, 5] },
    { count: 3, share: 0.1, held: [2] },
    { count: 5, share: 0.9, held: [1, 3] },
  ])('holds out every n-th: %o', async ({ count, share, held }) => {
    const source = new MemoryDocuments(Array.from({ length: count }, (_, i) => Int32Array.of(i)));
    const { training, validation } = splitDocuments(source, share);
    const ids = async (part: typeof training) => {
      const read = [];
      for (let i = 0; i < part.count; i++) read.push(...Array.from(await (await part.open(i)).read(0, 1)));
      return read;
    };
    expect(await ids(validation)).toEqual(held);
    expect(await ids(training)).toEqual(Array.from({ length: count }, (_, i) => i).filter((i) => !held.includes(i)));
    expect(training.fingerprint).not.toBe(validation.fingerprint);
  });

  test('refuses one document, and a share that is none; holds nothing out for a share of 0', () => {
    expect(() => splitDocuments(new MemoryDocuments(randomDocuments([9])))).toThrow(/is 1 document; expected at least 2.*--validation/);
    expect(() => splitDocuments(new MemoryDocuments(randomDocuments([9, 9])), -0.1)).toThrow(ArgumentError);
    const { training, validation } = splitDocuments(new MemoryDocuments(randomDocuments([9])), 0);
    expect([training.count, validation.count]).toEqual([1, 0]);
  });
});
