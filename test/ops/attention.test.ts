import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { operationCases } from '../../src/ops/all-cases.js';
import { attention } from '../../src/ops/attention/attention.js';
import type { OperationCase } from '../../src/ops/cases.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, tensor, type Tensor } from '../../src/tensor/index.js';
import { roundToHalf } from '../../src/util/half.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { runCase } from '../support/cases.js';
import { expectClose } from '../support/compare.js';
import { halfTolerance } from '../support/tolerances.js';

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

/** Of the cases with a cache: a few queries on one head of keys each and on grouped heads, many queries, a window. */
const pagedCases = (operationCases['attention'] ?? []).filter(({ name }) => name.includes('after') && !name.includes('pools'));

describe.each(compiledKernels)('keys and values in f16, %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const reference = useBackend('reference');

  test.each(pagedCases)('$name', async (one) => {
    // The pools alone: the CPU takes no other half.
    const halved = { ...one, half: ['keys', 'values'] };
    const [actual, right] = [await runCase(backend(), halved, 'f16'), await runCase(reference(), halved, 'f16')];
    actual.outputs.forEach((values, i) => {
      expectClose(values, right.outputs[i] ?? [], halfTolerance, `output ${i}`);
    });
    for (const [name, values] of actual.gradients) expectClose(values, right.gradients.get(name) ?? [], halfTolerance, `d${name}`);
    expect(backend().statistics().liveBuffers, 'live buffers').toBe(0);
  });

  test.each([1, 7, 63, 1000])('%d numbers are rounded to nearest, ties to even, and widened again', async (count) => {
    const special = [0, -0, 1, 65504, -65504, 65519, 1e9, -1e9, 2049, 2051, 2 ** -14, 2 ** -24, 2 ** -25, 3 * 2 ** -25, 1.5 * 2 ** -24, -5 * 2 ** -26, 2 ** -40, 0.1, Infinity, NaN];
    const random = new Random(3);
    const values = Float32Array.from({ length: count }, (_, i) => special[i] ?? random.normal() * 2 ** (random.integer(40) - 28));
    const bounded = Array.from(values, (value) => (Math.abs(value) > 65504 ? Math.sign(value) * 65504 : roundToHalf(value)));
    const [given, kept] = [tensor(backend(), values, [count]), empty(backend(), [count], 'f16')];
    const uploaded = tensor(backend(), values, [count], 'f16');
    const widened = empty(backend(), [count]);
    copyInto(given, kept);
    copyInto(kept, widened);
    for (const made of [kept, uploaded, widened]) expect(Array.from(await made.data())).toEqual(bounded);
    kept.write(Float32Array.from(values).reverse());
    expect(Array.from(await kept.data())).toEqual(bounded.reverse());
    for (const made of [given, kept, uploaded, widened]) made.dispose();
  });

  test('no other kernel of the CPU takes halves', () => {
    const q = tensor(backend(), new Float32Array(8), [1, 1, 1, 8], 'f16');
    expect(() => attention(q, q, q)).toThrow('q is f16; expected f32');
    q.dispose();
  });
});

describe('keys in one dtype and values in another', () => {
  const backend = useBackend('reference');
  test.each([['f32', 'f16'], ['f16', 'f32']] as const)('%s and %s', (keys, values) => {
    const q = empty(backend(), [1, 1, 1, 8]);
    const [pages, positions] = [tensor(backend(), [0], [1, 1], 'i32'), tensor(backend(), [0], [1], 'i32')];
    const cache = { keys: empty(backend(), [1, 64, 1, 8], keys), values: empty(backend(), [1, 64, 1, 8], values), pages, positions };
    expect(() => attention(q, q, q, { cache })).toThrow(`attention: cache.values is ${values}; expected ${keys}, as cache.keys is`);
    for (const made of [q, ...Object.values(cache)]) made.dispose();
  });
});
