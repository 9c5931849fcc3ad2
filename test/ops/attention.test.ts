import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { operationCases } from '../../src/ops/all-cases.js';
import { attention } from '../../src/ops/attention/attention.js';
import type { OperationCase } from '../../src/ops/cases.js';
import { empty, tensor, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { runCase } from '../support/cases.js';

/** Many queries, several tiles and blocks; a window; documents; few queries on grouped heads, whose keys are cut into parts. */
const names = [
  'q [1,200,4,64], k [1,200,2,64]',
  'q [1,150,2,80], k [1,150,2,80], a window of 70',
  'q [2,190,2,16], k [2,190,1,16], documents',
  'q [2,40,4,64], k [2,40,1,64] after 0, 300 positions',
  'q [2,4,6,20], k [2,4,3,20] after 61, 200 positions, a window of 66',
];

// With 1 thread the backward pass is one, with more threads than heads it is two: the sums are the same.
describe.each(compiledKernels)('attention, %s kernels', (kernels) => {
  test('1, 2 or 7 threads, and any run, give the same bits', async () => {
    const cases = names.map((name) => operationCases['attention']?.find((one) => one.name === name)) as OperationCase[];
    const results = [];
    for (const threads of [1, 2, 7, 2]) {
      const backend = await openBackend('cpu', { kernels, threads });
      const found = [];
      for (const one of cases) {
        const { outputs, gradients } = await runCase(backend, one);
        found.push(...[...outputs, ...gradients.values()].map((values) => Buffer.from(values.buffer)));
      }
      results.push(Buffer.concat(found));
      await backend.close();
    }
    for (const other of results) expect(other.equals(results[0] ?? Buffer.alloc(0))).toBe(true);
  });
});

describe('heads that tiles have no room for', () => {
  const backend = useBackend('reference');
  test.each([257, 300, 512])('%d numbers are refused', (size) => {
    const [q, k, v] = [0, 1, 2].map(() => empty(backend(), [1, 9, 1, size])) as [Tensor, Tensor, Tensor];
    expect(() => attention(q, k, v)).toThrow(`attention: q is [1,9,1,${size}]; expected [B,L,H,P] with P ≤ 256`);
    for (const made of [q, k, v]) made.dispose();
  });
});

// More heads than the memory that threads share has room for in one part.
describe.each(compiledKernels.slice(0, 1))('4096 heads, %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  test('8 queries of 64 numbers each', async () => {
    const [q, k, v] = [0, 1, 1.5].map((value) => tensor(backend(), new Float32Array(8 * 4096 * 64).fill(value), [1, 8, 4096, 64])) as [Tensor, Tensor, Tensor];
    const y = attention(q, k, v);
    expect((await y.data()).every((value) => Math.abs(value - 1.5) < 1e-6)).toBe(true);
    for (const made of [q, k, v, y]) made.dispose();
  });
});
