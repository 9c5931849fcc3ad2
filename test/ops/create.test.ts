import { describe, expect, test } from 'vitest';
import { logitLosses } from '../../src/ops/cross-entropy/cross-entropy.js';
import { crossEntropy, full, linear, mean, tokenLosses, zeros } from '../../src/ops/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';

describe('tensors of one value', () => {
  const backend = useBackend('cpu');

  test.each([
    [[2, 3], 1.5, [1.5, 1.5, 1.5, 1.5, 1.5, 1.5]],
    [[], -2, [-2]],
    [[0, 4], 7, []],
    [[3], NaN, [NaN, NaN, NaN]],
  ] as const)('full %j of %d', async (shape, value, values) => {
    const made = full(backend(), shape, value);
    expect([made.shape, made.dtype, [...(await made.data())]]).toEqual([shape, 'f32', values]);
    made.dispose();
  });

  test('zeros', async () => {
    const made = zeros(backend(), [2, 2]);
    expect([...(await made.data())]).toEqual([0, 0, 0, 0]);
    made.dispose();
  });

  test.each([[[-1]], [[1.5]], [[NaN, 2]]])('refuse the shape %j, and leave nothing', (shape) => {
    expect(() => full(backend(), shape, 1)).toThrow(/expected/);
  });
});

describe('losses of logits', () => {
  const backend = useBackend('cpu');
  const numbers = (count: number, f: (i: number) => number) => Float32Array.from({ length: count }, (_, i) => f(i));

  test('are those that tokenLosses works out from the hidden states, and crossEntropy is their mean', async () => {
    const [hidden, weight] = [tensor(backend(), numbers(12 * 5, Math.sin), [3, 4, 5]), tensor(backend(), numbers(7 * 5, Math.cos), [7, 5])];
    const targets = tensor(backend(), Int32Array.from({ length: 12 }, (_, i) => (i * 5) % 7), [3, 4], 'i32');
    const { losses, expected, average, loss } = scope(() => {
      const logits = linear(hidden, weight);
      const losses = logitLosses(logits, targets);
      return { losses, expected: tokenLosses(hidden, weight, targets), average: mean(losses), loss: crossEntropy(logits, targets) };
    });
    expect(losses.shape).toEqual([3, 4]);
    expectClose(await losses.data(), await expected.data(), 1e-6, 'losses');
    expectClose(await average.data(), await loss.data(), 1e-6, 'mean');
    for (const one of [hidden, weight, targets, losses, expected, average, loss]) one.dispose();
  });

  test('are 0 where the target is −1', async () => {
    const logits = tensor(backend(), [0, 0, 5, 1], [2, 2]);
    const targets = tensor(backend(), [-1, 0], [2], 'i32');
    const losses = logitLosses(logits, targets);
    expectClose(await losses.data(), [0, Math.log(1 + Math.exp(-4))], 1e-5, 'losses');
    for (const one of [logits, targets, losses]) one.dispose();
  });
});
