import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { operationCases } from '../../src/ops/all-cases.js';
import type { OperationCase } from '../../src/ops/cases.js';
import { compiledKernels } from '../support/backends.js';
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
