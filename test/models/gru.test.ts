import { describe, expect, test } from 'vitest';
import { GruMixer } from '../../src/mixers/index.js';
import { initialParameters, ParameterStore, type Parameter } from '../../src/nn/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';

const [batch, length, width] = [2, 7, 5];

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** PyTorch's nn.GRU, one number after another. @param x [L][D] @param h [D] @param starts positions before which h is forgotten */
function gru(weights: Readonly<Record<string, ArrayLike<number>>>, x: readonly number[][], h: readonly number[], starts: readonly number[]): number[][] {
  const row = (name: 'ih' | 'hh', i: number, of: readonly number[]) =>
    of.reduce((sum, value, j) => sum + value * (weights[`weight_${name}`]?.[i * width + j] ?? NaN), weights[`bias_${name}`]?.[i] ?? NaN);
  let now = [...h];
  return x.map((input, t) => {
    const before = starts.includes(t) ? now.map(() => 0) : now;
    now = before.map((value, i) => {
      const r = sigmoid(row('ih', i, input) + row('hh', i, before));
      const z = sigmoid(row('ih', width + i, input) + row('hh', width + i, before));
      const n = Math.tanh(row('ih', 2 * width + i, input) + r * row('hh', 2 * width + i, before));
      return (1 - z) * n + z * value;
    });
    return now;
  });
}

describe.each([...compiledKernels, 'reference'] as const)('a GRU on %s', (kernels) => {
  const backend = kernels === 'reference' ? useBackend('reference') : useBackend('cpu', { kernels });

  async function withMixer(body: (mixer: GruMixer, weights: Record<string, ArrayLike<number>>) => Promise<void>): Promise<void> {
    const store = new ParameterStore(initialParameters(backend(), 4));
    const mixer = new GruMixer(store, { dModel: width });
    const weights: Record<string, ArrayLike<number>> = {};
    for (const { key, tensor: values } of store.all as Parameter[]) weights[key] = await values.exactData();
    try {
      await body(mixer, weights);
    } finally {
      for (const { tensor: values } of store.all) values.dispose();
    }
  }

  const x = Float32Array.from({ length: batch * length * width }, (_, i) => Math.sin(3 * i + 1));
  const rowOf = (b: number) => Array.from({ length }, (_, t) => [...x.subarray((b * length + t) * width, (b * length + t + 1) * width)]);
  const before = Float32Array.from({ length: batch * width }, (_, i) => Math.cos(5 * i));
  const limit = 1e-6;

  test('has the weights of nn.GRU', () =>
    withMixer((mixer) => {
      expect([mixer.input, mixer.hidden].map(({ weight, bias }) => [weight.key, weight.tensor.shape, bias?.key, bias?.tensor.shape])).toEqual([
        ['weight_ih', [15, 5], 'bias_ih', [15]],
        ['weight_hh', [15, 5], 'bias_hh', [15]],
      ]);
      return Promise.resolve();
    }));

  test.each<{ name: string; memory: boolean; starts: readonly (readonly number[])[] }>([
    { name: 'from zeros', memory: false, starts: [[], []] },
    { name: 'from a memory', memory: true, starts: [[], []] },
    { name: 'with documents', memory: true, starts: [[0, 3], [6]] },
    { name: 'with a document at each position', memory: true, starts: [[0, 1, 2, 3, 4, 5, 6], []] },
  ])('$name', ({ memory, starts }) =>
    withMixer(async (mixer, weights) => {
      const [y, after] = scope(() => {
        const h = tensor(backend(), new Float32Array(batch * width).fill(9), [batch, width]);
        const marks = Int32Array.from({ length: batch * length }, (_, i) => (starts[Math.floor(i / length)]?.includes(i % length) === true ? i + 1 : 0));
        const pass = {
          after: { h },
          ...(memory ? { before: { h: tensor(backend(), before, [batch, width]) } } : {}),
          ...(starts.flat().length === 0 ? {} : { starts: tensor(backend(), marks, [batch, length], 'i32') }),
        };
        return [mixer.forward(tensor(backend(), x, [batch, length, width]), pass), h] as [Tensor, Tensor];
      });
      const expected = [0, 1].map((b) => gru(weights, rowOf(b), memory ? [...before.subarray(b * width, (b + 1) * width)] : new Array<number>(width).fill(0), starts[b] ?? []));
      expectClose(await y.exactData(), expected.flat(2), limit, 'output');
      expectClose(await after.exactData(), expected.flatMap((rows) => rows.at(-1) ?? []), limit, 'memory');
      for (const one of [y, after]) one.dispose();
    }));

  test('a step', () =>
    withMixer(async (mixer, weights) => {
      const [y, h] = scope(() => {
        const memory = tensor(backend(), before, [batch, width]);
        const input = tensor(backend(), [...rowOf(0)[0] ?? [], ...rowOf(1)[0] ?? []], [batch, width]);
        return [mixer.step({ value: () => input as Tensor<'f32'>, project: (linear) => linear.forward(input) }, { memory: { h: memory }, constants: {} }), memory] as [Tensor, Tensor];
      });
      const expected = [0, 1].flatMap((b) => gru(weights, rowOf(b).slice(0, 1), [...before.subarray(b * width, (b + 1) * width)], [])[0] ?? []);
      expectClose(await y.exactData(), expected, limit, 'output');
      expectClose(await h.exactData(), expected, limit, 'memory');
      for (const one of [y, h]) one.dispose();
    }));
});
