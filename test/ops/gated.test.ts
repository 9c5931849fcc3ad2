import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { gated, gelu, geluTanh, multiply, sigmoid, silu, relu, type GateActivation } from '../../src/ops/index.js';
import { normalDistribution } from '../../src/ops/elementwise/functions.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';

// From mpmath, to 40 digits.
test.each([
  [-12, 1.776482112077679e-33],
  [-6.5, 4.016000583859118e-11],
  [-3.1, 0.0009676032132183566],
  [-3, 0.0013498980316300946],
  [-2.9, 0.0018658133003840384],
  [-1, 0.15865525393145705],
  [-0.1, 0.460172162722971],
  [0, 0.5],
  [0.3, 0.6179114221889527],
  [2.999, 0.9986456634662729],
  [3, 0.9986501019683699],
  [5, 0.9999997133484281],
])('Φ(%f) = %f', (x, right) => {
  expect(Math.abs(normalDistribution(x) / right - 1)).toBeLessThan(1e-12);
});

const functions = { silu, gelu, geluTanh, sigmoid, relu } as const;

describe.each([...compiledKernels, 'reference'] as const)('%s', (kernels) => {
  const backend = kernels === 'reference' ? useBackend('reference') : useBackend('cpu', { kernels });

  test.each(Object.keys(functions) as GateActivation[])('gated by %s is the product, its slope is bounded', async (activation) => {
    const [gate, up] = scope((): [Tensor, Tensor] => [
      tensor(backend(), [-1e30, -60, -1.5, -0.25, 0, 0.5, 3, 90, 1e30], [9]),
      tensor(backend(), [1, 2, 3, 4, -5, 6, -7, 8, 0], [9]),
    ]);
    const tape = new Tape([gate, up]);
    const [y, slow, dgate, dup] = scope(() => {
      const made = tape.run(() => gated(gate, up, activation));
      const ones = tensor(backend(), new Float32Array(9).fill(1), [9]);
      return [made, multiply(functions[activation](gate), up), ...(tape.backward([made], [ones], [gate, up]) as [Tensor, Tensor])];
    });
    expect(await y.data()).toEqual(await slow.data());
    const slopes = await dgate.data();
    // f′(1e30) = 1, but for a sigmoid: times up = 0. f′(90) = 1, times 8.
    expect([...slopes.subarray(7)]).toEqual([activation === 'sigmoid' ? 0 : 8, 0]);
    expect([slopes[0], slopes[1]].map((slope) => Math.abs(slope ?? NaN) < 1e-20)).toEqual([true, true]);
    const values = scope(() => functions[activation](gate));
    expect(await dup.data()).toEqual(await values.data());
    for (const one of [gate, up, y, slow, dgate, dup, values]) one.dispose();
  });
});

describe('what is wrong', () => {
  const backend = useBackend('reference');
  test.each<[number[], number[], unknown, string]>([
    [[2, 3], [2, 4], 'silu', 'gated: up is [2,4]; expected the shape of gate = [2,3]'],
    [[2, 3], [3], 'gelu', 'gated: up is [3]; expected the shape of gate = [2,3]'],
    [[2, 3], [2, 3], 'swish', "gated: activation is 'swish'; expected one of 'silu', 'gelu', 'geluTanh', 'sigmoid', 'relu'"],
    [[2, 3], [2, 3], 'tanh', "gated: activation is 'tanh'; expected one of 'silu'"],
    [[2, 3], [2, 3], undefined, 'gated: activation is undefined; expected one of'],
  ])('%o and %o by %o', (gate, up, activation, message) => {
    scope(() => {
      const zeros = (shape: number[]) => tensor(backend(), new Float32Array(shape.reduce((a, b) => a * b)), shape);
      expect(() => gated(zeros(gate), zeros(up), activation as GateActivation)).toThrow(message);
    });
  });
});
