import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { integers, type CaseInput, type CaseTensors, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { sampleTokens } from './sampling.js';

/** Multiples of ⅛, which half precision holds exactly: the draws are the same in both. */
function logits(random: Random, shape: readonly number[]): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { shape, values: Float32Array.from({ length: size }, () => Math.round(24 * random.normal()) / 8) };
}

const inputs = (random: Random, rows: number, columns: number, counter = 0) => ({
  logits: logits(random, [rows, columns]),
  ids: integers(random, [rows], 9),
  counter: { shape: [1], dtype: 'i32', values: [counter] } as const,
  history: integers(random, [rows, 3], 9),
});

/** Two steps, the second where the first has left counter and history. */
function twoSteps(input: CaseTensors, from: Tensor, temperature: number): Tensor[] {
  const into = { ids: input('ids'), counter: input('counter'), history: input('history') };
  for (let step = 0; step < 2; step++) sampleTokens(from, into, { temperature, seed: 4_000_000_019 });
  return [into.ids, into.counter, into.history];
}

const sizes = [[1, 1], [3, 2], [2, 63], [5, 64], [70, 65], [2, 100]] as const;
const notDifferentiable = { differentiable: [] } as const;

// Nothing here is differentiable: these compare ids on every backend. Ids below 120 must be equal even by the tolerance of f16.
export const cases: readonly OperationCase[] = [
  ...sizes.flatMap(([rows, columns]) =>
    [0, 0.7, 1e4].map((temperature): OperationCase => ({
      name: `[${rows},${columns}] at temperature ${temperature}`,
      inputs: (random) => inputs(random, rows, columns),
      run: (input) => twoSteps(input, input('logits'), temperature),
      half: ['logits'],
      ...notDifferentiable,
    })),
  ),
  ...[0, 1].map((temperature): OperationCase => ({
    name: `a vocabulary of 50,280 at temperature ${temperature}`,
    inputs: (random) => inputs(random, 3, 50_280, 1000),
    run: (input) => twoSteps(input, input('logits'), temperature),
    ...notDifferentiable,
  })),
  {
    name: 'a history that ends',
    inputs: (random) => inputs(random, 4, 50, 2),
    run: (input) => twoSteps(input, input('logits'), 1),
    ...notDifferentiable,
  },
  {
    name: 'gaps between the rows',
    inputs: (random) => inputs(random, 4, 50),
    run: (input) => twoSteps(input, split(input('logits'), [7, 43])[1] as Tensor, 1),
    ...notDifferentiable,
  },
  ...[0, 1].map((temperature): OperationCase => ({
    name: `NaN, ±∞ and nothing else at temperature ${temperature}`,
    inputs(random) {
      const made = inputs(random, 4, 40);
      const values = Float32Array.from(made.logits.values, (value, i) => {
        if (i < 40) return i === 17 || i === 23 ? value : NaN;
        if (i < 80) return i === 41 ? -3 : -Infinity;
        if (i < 120) return i === 99 ? Infinity : value;
        return i % 2 === 0 ? NaN : -Infinity;
      });
      return { ...made, logits: { ...made.logits, values } };
    },
    run: (input) => twoSteps(input, input('logits'), temperature),
    half: ['logits'],
    ...notDifferentiable,
  })),
];
