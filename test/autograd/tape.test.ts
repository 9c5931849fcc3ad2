import { describe, expect, test, vi } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { add, affine, exp, multiply, negate, reshape, sum } from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';

const values = [0.5, -1, 2, 0.25];

/** A function of x with several readers of x or of something made of it, and its slope. */
const functions: [name: string, f: (x: Tensor) => Tensor, slope: (x: number) => number][] = [
  ['x + x, one operation that reads it twice', (x) => add(x, x), () => 2],
  ['two readers', (x) => add(exp(x), negate(x)), (x) => Math.exp(x) - 1],
  ['three readers', (x) => add(add(exp(x), negate(x)), multiply(x, x)), (x) => Math.exp(x) - 1 + 2 * x],
  ['a gradient that goes on unchanged to two tensors', (x) => sum(add(add(x, exp(x)), reshape(add(x, exp(x)), [2, 2]).aliased([4]))), (x) => 1 + Math.exp(x)],
  ['readers of what was made of it', (x) => { const y = affine(x, 3); return add(add(exp(y), multiply(y, y)), add(y, y)); }, (x) => 3 * Math.exp(3 * x) + 18 * x + 6],
];

describe('gradients of tensors with several readers', () => {
  const backend = useBackend('cpu', { kernels: 'wasm' });

  test.each(functions)('%s', async (_, f, slope) => {
    const x = tensor(backend(), values, [4]);
    const { value, gradients } = scope(() => valueAndGradients([x], () => sum(f(x))));
    const gradient = await gradients[0]?.data();
    values.forEach((at, i) => {
      expect(gradient?.[i] ?? NaN).toBeCloseTo(slope(at), 4);
    });
    for (const one of [x, value, ...gradients]) one?.dispose();
  });

  test('are added up in place from the second on, where nobody else reads what is there', async () => {
    const x = tensor(backend(), values, [4]);
    const made: number[] = [];
    const count = (readers: number) => {
      const allocate = vi.spyOn(backend(), 'allocate');
      const results = scope(() => valueAndGradients([x], () => sum(Array.from({ length: readers }, (_, i) => affine(x, i + 1)).reduce((a, b) => add(a, b)))));
      made.push(allocate.mock.calls.length);
      allocate.mockRestore();
      return results;
    };
    const results = [1, 2, 3, 4].map(count);
    // A reader makes its result, a sum with the others', and its part of the gradient: no sum of gradients besides.
    expect([1, 2, 3].map((i) => (made[i] as number) - (made[i - 1] as number))).toEqual([3, 3, 3]);
    expect([...((await results[3]?.gradients[0]?.data()) ?? [])]).toEqual([10, 10, 10, 10]);
    for (const { value, gradients } of results) for (const one of [value, ...gradients]) one?.dispose();
    x.dispose();
  });
});
