import { describe, expect, it } from 'vitest';
import {
  Sampler,
  applyTemperature,
  argmax,
  drawToken,
  keepMinP,
  keepTopK,
  keepTopP,
  penaliseRepetition,
} from '../../src/generate/sampling.js';
import type { SamplingOptions } from '../../src/generate/sampling.js';
import { ArgumentError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';

// The slow versions: sort everything, allocate freely, follow the definitions word by word.

function softmax(logits: ArrayLike<number>): number[] {
  const largest = Math.max(...Array.from(logits));
  const weights = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

/** Ids by descending logit; the sort is stable, so equal ones stay in ascending order of id. */
function ranking(logits: ArrayLike<number>): number[] {
  return Array.from(logits, (_, id) => id).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
}

function keepOnly(logits: ArrayLike<number>, keep: (id: number) => boolean): number[] {
  return Array.from(logits, (logit, id) => (keep(id) ? logit : -Infinity));
}

function slowTopK(logits: ArrayLike<number>, k: number): number[] {
  const kth = Array.from(logits).sort((a, b) => b - a)[Math.min(k, logits.length) - 1] as number;
  return keepOnly(logits, (id) => (logits[id] as number) >= kth);
}

function slowTopP(logits: ArrayLike<number>, p: number): number[] {
  const probabilities = softmax(logits);
  const kept = new Set<number>();
  let sum = 0;
  for (const id of ranking(logits)) {
    if (sum >= p) break;
    kept.add(id);
    sum += probabilities[id] as number;
  }
  return keepOnly(logits, (id) => kept.has(id));
}

function slowMinP(logits: ArrayLike<number>, minP: number): number[] {
  const probabilities = softmax(logits);
  const least = minP * Math.max(...probabilities);
  return keepOnly(logits, (id) => (probabilities[id] as number) >= least);
}

function slowPenalty(logits: ArrayLike<number>, previous: number[], penalty: number): number[] {
  const seen = new Set(previous);
  return Array.from(logits, (logit, id) => (seen.has(id) ? (logit > 0 ? logit / penalty : logit * penalty) : logit));
}

/** The distribution that `options` should give: the slow steps in the order of transformers. */
function slowDistribution(logits: ArrayLike<number>, previous: number[], options: SamplingOptions): number[] {
  const { repetitionPenalty = 1, temperature = 1, topK = Infinity, topP = 1, minP = 0 } = options;
  let current = slowPenalty(logits, previous, repetitionPenalty).map((logit) => logit / temperature);
  current = slowTopK(current, topK);
  if (topP < 1) current = slowTopP(current, topP);
  return softmax(slowMinP(current, minP));
}

function normalLogits(random: Random, size: number, scale = 2): Float32Array {
  return Float32Array.from({ length: size }, () => random.normal() * scale);
}

/** Few different values, so that there are many equal ones. */
function tiedLogits(random: Random, size: number): Float32Array {
  return Float32Array.from({ length: size }, () => random.integer(5) / 2);
}

/** Already filtered logits, as a filter after another sees them. */
function masked(random: Random, size: number): Float32Array {
  return normalLogits(random, size).map((logit, id) => (id % 3 === 0 ? logit : -Infinity));
}

function changed(logits: Float32Array, change: (logits: Float32Array) => void): number[] {
  const copy = logits.slice();
  change(copy);
  return Array.from(copy);
}

const kinds: [string, (random: Random, size: number) => Float32Array][] = [
  ['normal logits', normalLogits],
  ['tied logits', tiedLogits],
  ['masked logits', masked],
];

describe.each(kinds)('filters on %s', (_, make) => {
  const random = new Random(11);

  it.each([1, 2, 7, 50, 299, 300, 1000])('top-k = %d', (k) => {
    for (let run = 0; run < 20; run++) {
      const logits = make(random, 300);
      expect(changed(logits, (l) => keepTopK(l, k))).toEqual(slowTopK(logits, k));
    }
  });

  it('top-k where a part is enough to bound the k-th largest', () => {
    const logits = make(random, 5000);
    for (const k of [1, 3, 40]) expect(changed(logits, (l) => keepTopK(l, k))).toEqual(slowTopK(logits, k));
  });

  it.each([1e-9, 0.1, 0.5001, 0.9, 0.999, 1])('top-p = %d', (p) => {
    for (let run = 0; run < 20; run++) {
      const logits = make(random, 300);
      expect(changed(logits, (l) => keepTopP(l, p))).toEqual(p === 1 ? Array.from(logits) : slowTopP(logits, p));
    }
  });

  it.each([0, 0.01, 0.0999, 0.5, 0.999])('min-p = %d', (minP) => {
    for (let run = 0; run < 20; run++) {
      const logits = make(random, 300);
      expect(changed(logits, (l) => keepMinP(l, minP))).toEqual(slowMinP(logits, minP));
    }
  });

  it('repetition penalty counts each id once', () => {
    const logits = make(random, 300);
    const previous = [3, 4, 3, 299, 0, 3];
    const expected = Array.from(Float32Array.from(slowPenalty(logits, previous, 1.3)));
    expect(changed(logits, (l) => penaliseRepetition(l, previous, 1.3))).toEqual(expected);
  });
});

describe('filters by hand', () => {
  it('top-k keeps what equals the last', () => {
    expect(changed(Float32Array.of(1, 3, 2, 2, 0), (l) => keepTopK(l, 2))).toEqual([-Infinity, 3, 2, 2, -Infinity]);
  });

  it('top-p keeps the lower ids of equals, and the token that crosses the sum', () => {
    expect(changed(new Float32Array(4), (l) => keepTopP(l, 0.5))).toEqual([0, 0, -Infinity, -Infinity]);
    expect(changed(new Float32Array(4), (l) => keepTopP(l, 0.51))).toEqual([0, 0, 0, -Infinity]);
  });

  it('the penalty makes positive and negative logits less likely', () => {
    expect(changed(Float32Array.of(2, -2, 0, 2), (l) => penaliseRepetition(l, [0, 1, 2], 2))).toEqual([1, -4, 0, 2]);
  });

  it('the penalty names an id that is none', () => {
    expect(() => penaliseRepetition(new Float32Array(3), [0, 3], 2)).toThrow(
      'penaliseRepetition: previousIds[1] is 3; expected an integer in [0, V) = [0, 3).',
    );
  });

  it('a tiny temperature does not overflow', () => {
    expect(changed(Float32Array.of(5, 7, -Infinity), (l) => applyTemperature(l, 1e-44))).toEqual([-Infinity, 0, -Infinity]);
  });

  it('argmax takes the first of equals', () => {
    expect(argmax(Float32Array.of(1, 4, 4, -1))).toBe(1);
    expect(argmax(Float32Array.of(-Infinity, -Infinity, -9))).toBe(2);
  });

  it('a draw never takes what was removed', () => {
    const random = new Random(3);
    const logits = Float32Array.of(-Infinity, 0, -Infinity, -Infinity);
    for (let i = 0; i < 100; i++) expect(drawToken(logits, random)).toBe(1);
  });
});

describe('Sampler', () => {
  const options: SamplingOptions[] = [
    {},
    { temperature: 0.7 },
    { temperature: 1.5, topK: 5 },
    { topP: 0.8 },
    { minP: 0.1 },
    { repetitionPenalty: 1.5 },
    { repetitionPenalty: 1.2, temperature: 0.8, topK: 12, topP: 0.9, minP: 0.05 },
  ];

  it.each(options)('draws from the distribution of the slow steps: %j', (option) => {
    const logits = normalLogits(new Random(5), 20, 1.5);
    const previous = [1, 2, 3, 4, 2];
    const expected = slowDistribution(logits, previous, option);
    const sampler = new Sampler({ ...option, seed: 8 });
    const draws = 20_000;
    const counts = new Array<number>(20).fill(0);
    for (let i = 0; i < draws; i++) (counts[sampler.sample(logits, previous)] as number)++;
    let chiSquare = 0;
    for (const [id, probability] of expected.entries()) {
      const count = counts[id] as number;
      if (probability === 0) expect(count).toBe(0);
      else chiSquare += (count - probability * draws) ** 2 / (probability * draws);
    }
    // χ² with at most 19 degrees of freedom is above 50 once in 7000; the seed is fixed, so this does not flicker.
    expect(chiSquare).toBeLessThan(50);
  });

  it('applies the steps in the documented order', () => {
    // Penalty first: it takes id 0 from the top, so that top-k = 1 leaves id 1.
    expect(new Sampler({ repetitionPenalty: 4, topK: 1, seed: 1 }).sample(Float32Array.of(3, 2, 1), [0])).toBe(1);
    // Top-k before top-p.
    const logits = Float32Array.of(2, 1, 1.5, 0);
    const both = new Sampler({ topK: 2, topP: 0.6, seed: 1 });
    // Alone, top-p would keep two, since e²/(e²+e+e^1.5+1) = 0.47 < 0.6; after top-k, e²/(e²+e^1.5) = 0.62 is enough.
    for (let i = 0; i < 50; i++) expect(both.sample(logits)).toBe(0);
  });

  it('is greedy at temperature 0, and draws nothing', () => {
    const sampler = new Sampler({ temperature: 0, topK: 1, seed: 4 });
    const before = sampler.state();
    expect(sampler.sample(Float32Array.of(0, 5, 5, 1))).toBe(1);
    expect(new Sampler({ temperature: 0, repetitionPenalty: 2 }).sample(Float32Array.of(0, 5, 4, 1), [1])).toBe(2);
    expect(sampler.state()).toEqual(before);
  });

  it('leaves the logits as they are', () => {
    const logits = normalLogits(new Random(1), 50);
    const copy = logits.slice();
    new Sampler({ temperature: 0.5, topK: 3, topP: 0.5, minP: 0.1, repetitionPenalty: 2 }).sample(logits, [1, 2]);
    expect(logits).toEqual(copy);
  });

  it('repeats itself with a seed, and goes on after restore', () => {
    const logits = normalLogits(new Random(2), 1000);
    const take = (sampler: Sampler): number[] => Array.from({ length: 20 }, () => sampler.sample(logits));
    const first = new Sampler({ seed: 42 });
    const start = take(first);
    expect(take(new Sampler({ seed: 42 }))).toEqual(start);
    expect(take(new Sampler({ seed: 43 }))).not.toEqual(start);
    const state = first.state();
    const next = take(first);
    const resumed = new Sampler({ seed: 1 });
    resumed.restore(JSON.parse(JSON.stringify(state)) as number[]);
    expect(take(resumed)).toEqual(next);
  });

  it('serves vocabularies of different sizes in turn', () => {
    const sampler = new Sampler({ topK: 1, seed: 1, repetitionPenalty: 1.1 });
    expect(sampler.sample(Float32Array.of(1, 2, 3))).toBe(2);
    expect(sampler.sample(Float32Array.of(9, 2, 3, 4, 5))).toBe(0);
  });

  it.each([
    [Float32Array.of(0, NaN), /sample: logits\[1\] is NaN; expected a number or −∞. Hint: the model computed/],
    [Float32Array.of(Infinity), /logits\[0\] is Infinity/],
    [Float32Array.of(-Infinity, -Infinity), /logits is −∞ everywhere; expected at least one number/],
    [new Float32Array(0), /logits is empty/],
  ])('refuses logits %j', (logits, message) => {
    for (const temperature of [0, 1]) {
      expect(() => new Sampler({ temperature }).sample(logits)).toThrow(ArgumentError);
      expect(() => new Sampler({ temperature }).sample(logits)).toThrow(message);
    }
  });

  it.each<[keyof SamplingOptions, number]>([
    ['temperature', -1],
    ['temperature', NaN],
    ['temperature', Infinity],
    ['topK', 0],
    ['topK', 1.5],
    ['topP', 0],
    ['topP', 1.1],
    ['minP', -0.1],
    ['minP', 2],
    ['repetitionPenalty', 0],
    ['seed', -1],
    ['seed', 2 ** 32],
  ])('refuses %s = %d', (name, value) => {
    expect(() => new Sampler({ [name]: value })).toThrow(ArgumentError);
    expect(() => new Sampler({ [name]: value })).toThrow(`Sampler: ${name} is ${value}; expected`);
  });
});
