import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { concatenate, split } from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';

const backend = useBackend('cpu', { kernels: 'auto' });

test.each<[shapes: number[][], values: number[], gradients: number[][]]>([
  [[[2, 1], [2, 2]], [0, 10, 11, 1, 12, 13], [[1, 4], [2, 3, 5, 6]]],
  [[[3], [1], [2]], [0, 1, 2, 10, 20, 21], [[1, 2, 3], [4], [5, 6]]],
  [[[1, 2, 2]], [0, 1, 2, 3], [[1, 2, 3, 4]]],
  [[[2, 0], [2, 1]], [10, 11], [[], [1, 2]]],
])('parts %j side by side', async (shapes, values, gradients) => {
  const parts = shapes.map((shape, i) => tensor(backend(), Array.from({ length: shape.reduce((a, b) => a * b) }, (_, j) => 10 * i + j), shape));
  const tape = new Tape(parts);
  const [y, ...given] = scope(() => {
    const made = tape.run(() => concatenate(parts));
    const dy = tensor(backend(), Array.from({ length: made.size }, (_, i) => i + 1), made.shape);
    return [made, ...(tape.backward([made], [dy], parts) as Tensor[])];
  }) as [Tensor, ...Tensor[]];
  expect([...(await y.data())]).toEqual(values);
  for (const [i, gradient] of given.entries()) expect([...(await gradient.data())]).toEqual(gradients[i]);
  for (const one of [y, ...given, ...parts]) one.dispose();
});

test('undoes split, of as many parts as there are', async () => {
  const x = tensor(backend(), Float32Array.from({ length: 600 }, (_, i) => i), [2, 300]);
  const y = scope(() => concatenate(split(x, new Array<number>(100).fill(3))));
  expect(await y.data()).toEqual(await x.data());
  for (const one of [x, y]) one.dispose();
});

describe('what is wrong', () => {
  test.each<[shapes: [number[], ('f32' | 'i32')?][], message: string]>([
    [[], 'concatenate: parts is none; expected at least one'],
    [[[[2, 3]], [[3, 3]]], 'concatenate: parts[1] is [3,3]; expected [2,C]'],
    [[[[2, 3]], [[2]]], 'concatenate: parts[1] is [2]; expected [2,C]'],
    [[[[]]], 'concatenate: parts[0] is []; expected [C]'],
    [[[[2]], [[2], 'i32']], 'concatenate: parts[1] is i32; expected f32 or f16'],
  ])('%j', (shapes, message) => {
    scope(() => {
      const parts = shapes.map(([shape, dtype = 'f32']) => tensor(backend(), new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0), shape, dtype));
      expect(() => concatenate(parts)).toThrow(message);
    });
  });
});
