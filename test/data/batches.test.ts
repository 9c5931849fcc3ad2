import { describe, expect, it } from 'vitest';
import { BatchSampler, ignoredTarget, splitText, validationBatches } from '../../src/data/index.js';
import type { Batch, BatchSamplerOptions } from '../../src/data/index.js';
import { ArgumentError } from '../../src/util/errors.js';

/** Tokens that are their own positions, so that a batch tells where it came from. */
const positions = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

function rows(batch: Batch, length: number): number[][] {
  return Array.from({ length: batch.inputs.length / length }, (_, row) =>
    Array.from(batch.inputs.subarray(row * length, (row + 1) * length)),
  );
}

const take = (sampler: BatchSampler, count: number): Batch[] => Array.from({ length: count }, () => sampler.next());

/** All batches of the epoch that begins now. */
const takeEpoch = (sampler: BatchSampler): Batch[] => {
  const first = sampler.next();
  return [first, ...take(sampler, sampler.batchesPerEpoch - 1)];
};

describe('splitText', () => {
  it('holds out the end, without a copy', () => {
    const tokens = positions(103);
    const { training, validation } = splitText(tokens);
    expect([training.length, validation.length]).toEqual([93, 10]);
    expect(training[0]).toBe(0);
    expect(validation[0]).toBe(93);
    expect(validation.buffer).toBe(tokens.buffer);
    expect(splitText(new Uint8Array(10), 0).validation).toHaveLength(0);
  });

  it.each([-0.1, 1, NaN])('refuses a share of %d', (share) => {
    expect(() => splitText(positions(10), share)).toThrow(/splitText: validationShare is .* expected a number in \[0, 1\)/);
  });
});

describe('BatchSampler', () => {
  const options: BatchSamplerOptions = { batchSize: 3, length: 8, seed: 5 };

  it('gives windows whose targets are the next tokens', () => {
    const sampler = new BatchSampler(positions(500), options);
    for (const { inputs, targets } of take(sampler, 60)) {
      expect(inputs).toHaveLength(24);
      expect(targets).toEqual(inputs.map((token) => token + 1));
      for (let i = 1; i < 24; i++) if (i % 8 !== 0) expect(inputs[i]).toBe((inputs[i - 1] as number) + 1);
    }
  });

  it('takes every window of an epoch once, but for what fills no batch', () => {
    const sampler = new BatchSampler(positions(500), options);
    const phases = new Set<number>();
    for (let epoch = 0; epoch < 12; epoch++) {
      const starts = takeEpoch(sampler).flatMap((batch) => rows(batch, 8).map((row) => row[0] as number));
      expect(sampler.state().epoch).toBe(epoch);
      expect(new Set(starts).size).toBe(starts.length);
      const phase = (starts[0] as number) % 8;
      phases.add(phase);
      for (const start of starts) expect(start % 8).toBe(phase);
      const windows = Math.floor((499 - phase) / 8);
      expect(starts.length).toBe(windows - (windows % 3));
      expect(starts).not.toEqual([...starts].sort((a, b) => a - b));
    }
    expect(phases.size).toBeGreaterThan(3);
  });

  it('depends on the seed and the epoch alone', () => {
    const make = (seed: number): Batch[] => take(new BatchSampler(positions(300), { ...options, seed }), 30);
    expect(make(1)).toEqual(make(1));
    expect(make(1)).not.toEqual(make(2));
    const sampler = new BatchSampler(positions(300), options);
    expect(takeEpoch(sampler)).not.toEqual(takeEpoch(sampler));
  });

  it('goes on from every state exactly', () => {
    const whole = new BatchSampler(positions(200), options);
    for (let step = 0; step < 30; step++) {
      const resumed = new BatchSampler(positions(200), { ...options, seed: 99 });
      resumed.restore(JSON.parse(JSON.stringify(whole.state())) as ReturnType<BatchSampler['state']>);
      const state = whole.state();
      const ahead = new BatchSampler(positions(200), options);
      ahead.restore(state);
      expect(take(resumed, 12)).toEqual(take(ahead, 12));
      expect(resumed.state()).toEqual(ahead.state());
      const next = new BatchSampler(positions(200), options);
      next.restore(state);
      expect(next.next()).toEqual(whole.next());
    }
  });

  it('works with the shortest text there is, and all token types', () => {
    const tokens = Uint8Array.from({ length: 25 }, (_, i) => i);
    const sampler = new BatchSampler(tokens, options);
    for (let i = 0; i < 20; i++) {
      const starts = rows(sampler.next(), 8).map((row) => row[0]);
      expect(starts.sort((a, b) => Number(a) - Number(b))).toEqual([0, 8, 16]);
    }
    expect(() => new BatchSampler(tokens.subarray(1), options)).toThrow(
      'BatchSampler: the training text is 24 tokens; expected at least 25 for a batch: batch size × length + 1 = 3 × 8 + 1. Hint: a longer text',
    );
    expect(new BatchSampler(Uint16Array.from(tokens), options).next()).toEqual(new BatchSampler(tokens, options).next());
  });

  it.each([{ batchSize: 0 }, { length: 1.5 }, { seed: -1 }])('refuses %j', (wrong) => {
    expect(() => new BatchSampler(positions(100), { ...options, ...wrong })).toThrow(ArgumentError);
  });

  it('refuses a state of another text and stays where it was', () => {
    const sampler = new BatchSampler(positions(100), options);
    take(sampler, 6);
    const state = sampler.state();
    expect(() => sampler.restore({ seed: 1, epoch: 3, position: 50 })).toThrow(/state.position is 50.*another text/);
    expect(() => sampler.restore({ seed: 1, epoch: -3, position: 0 })).toThrow(/state.epoch is -3/);
    expect(sampler.state()).toEqual(state);
    const other = new BatchSampler(positions(100), options);
    other.restore(state);
    expect(take(sampler, 5)).toEqual(take(other, 5));
  });
});

describe('validationBatches', () => {
  it.each([2, 9, 24, 25, 26, 49, 50, 100])('covers %d tokens exactly once', (count) => {
    const tokens = positions(count).map((token) => token + 1);
    const batches = [...validationBatches(tokens, { batchSize: 3, length: 8 })];
    expect(batches).toHaveLength(Math.ceil((count - 1) / 24));
    const inputs = batches.flatMap((batch) => Array.from(batch.inputs));
    const targets = batches.flatMap((batch) => Array.from(batch.targets));
    expect(inputs).toHaveLength(batches.length * 24);
    expect(targets.slice(0, count - 1)).toEqual(Array.from(tokens.subarray(1)));
    expect(inputs.slice(0, count - 1)).toEqual(Array.from(tokens.subarray(0, -1)));
    for (const target of targets.slice(count - 1)) expect(target).toBe(ignoredTarget);
    for (const input of inputs.slice(count - 1)) expect(input).toBe(0);
  });

  it('can be gone through again', () => {
    const batches = validationBatches(positions(30), { batchSize: 2, length: 4 });
    expect([...batches]).toEqual([...batches]);
  });

  it('refuses too little text and impossible shapes at once', () => {
    expect(() => validationBatches(positions(1), { batchSize: 1, length: 4 })).toThrow(
      'validationBatches: the text is of length 1; expected at least 2 tokens. Hint:',
    );
    expect(() => validationBatches(positions(9), { batchSize: 0, length: 4 })).toThrow(ArgumentError);
  });
});
