import { describe, expect, test } from 'vitest';
import { sampleTokens } from '../../src/ops/sampling/sampling.js';
import { scope, tensor, type Backend } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';

const settings = { temperature: 0.8, seed: 12 };

function logitsOf(rows: number, columns: number): Float32Array {
  const random = new Random(5);
  return Float32Array.from({ length: rows * columns }, () => 3 * random.normal());
}

/** The history of `steps` steps on the same logits; `repeat` runs the step. */
async function draw(
  backend: Backend,
  { rows, columns, steps }: { rows: number; columns: number; steps: number },
  options = settings,
  repeat: (step: () => void) => void = (step) => {
    for (let i = 0; i < steps; i++) step();
  },
): Promise<number[]> {
  const history = scope(() => {
    const logits = tensor(backend, logitsOf(rows, columns), [rows, columns]);
    const ids = tensor(backend, new Int32Array(rows), [rows], 'i32');
    const counter = tensor(backend, [0], [1], 'i32');
    const history = tensor(backend, new Int32Array(rows * steps).fill(-9), [rows, steps], 'i32');
    repeat(() => {
      sampleTokens(logits, { ids, counter, history }, options);
    });
    return history;
  });
  const values = Array.from(await history.data());
  history.dispose();
  return values;
}

const kinds = [
  ...compiledKernels.map((kernels) => ['cpu', kernels] as const),
  ...(gpuIsHere ? [['webgpu', undefined] as const] : []),
];

describe.each(kinds)('%s %s', (kind, kernels) => {
  const backend = useBackend(kind, kernels === undefined ? {} : { kernels });
  const reference = useBackend('reference');

  test('a captured step draws, replay by replay, what the reference draws', async () => {
    const size = { rows: 3, columns: 200, steps: 20 };
    const replayed = await draw(backend(), size, settings, (step) => {
      const program = backend().capture(step);
      for (let i = 0; i < size.steps; i++) program.replay();
      program.dispose();
    });
    expect(replayed).toEqual(await draw(reference(), size));
  });

  test('temperature 0 is the largest logit', async () => {
    const [rows, columns] = [4, 77];
    const values = logitsOf(rows, columns);
    const largest = Array.from({ length: rows }, (_, r) => {
      const row = values.subarray(r * columns, (r + 1) * columns);
      return row.indexOf(Math.max(...row));
    });
    expect(await draw(backend(), { rows, columns, steps: 1 }, { temperature: 0, seed: 1 })).toEqual(largest);
  });

  test('rows, steps and seeds draw independently', async () => {
    const size = { rows: 8, columns: 1000, steps: 8 };
    const one = await draw(backend(), size, { temperature: 50, seed: 0 });
    const other = await draw(backend(), size, { temperature: 50, seed: 1 });
    expect(new Set([...one, ...other]).size).toBeGreaterThan(100);
  });
});

describe('the distribution', () => {
  const backend = useBackend('cpu');

  test.each([0.5, 1, 3])('is softmax(logits / %s)', async (temperature) => {
    const logits = [2, 0, -1, 1.5, -4, 2];
    const [rows, steps] = [100, 300];
    const history = scope(() => {
      const values = Array.from({ length: rows }, () => logits).flat();
      const from = tensor(backend(), values, [rows, logits.length]);
      const ids = tensor(backend(), new Int32Array(rows), [rows], 'i32');
      const counter = tensor(backend(), [0], [1], 'i32');
      const history = tensor(backend(), new Int32Array(rows * steps), [rows, steps], 'i32');
      for (let step = 0; step < steps; step++) sampleTokens(from, { ids, counter, history }, { temperature, seed: 77 });
      return history;
    });
    const drawn = await history.data();
    history.dispose();
    const weights = logits.map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((a, b) => a + b, 0);
    const n = rows * steps;
    weights.forEach((weight, id) => {
      const probability = weight / total;
      const count = drawn.filter((value) => value === id).length;
      // Five standard deviations of a binomial count; the draws are the same in every run.
      expect(Math.abs(count - n * probability)).toBeLessThan(5 * Math.sqrt(n * probability * (1 - probability)) + 1);
    });
  });

  test('what does not fit is refused', () => {
    scope(() => {
      const logits = tensor(backend(), new Float32Array(6), [2, 3]);
      const ids = tensor(backend(), [0, 0], [2], 'i32');
      const counter = tensor(backend(), [0], [1], 'i32');
      const call = (into: object, options: object) => () => {
        sampleTokens(logits, { ids, counter, ...into }, { ...settings, ...options });
      };
      expect(call({}, { temperature: -1 })).toThrow(/temperature/);
      expect(call({}, { seed: 0.5 })).toThrow(/seed/);
      expect(call({ ids: counter }, {})).toThrow(/ids/);
      expect(call({ counter: ids }, {})).toThrow(/counter/);
      expect(call({ history: ids }, {})).toThrow(/history/);
      expect(call({ ids: tensor(backend(), [0, 0], [2]) }, {})).toThrow(/i32/);
    });
  });
});
