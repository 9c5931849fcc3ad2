import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { gemmInto } from '../../src/ops/matmul/gemm.js';
import { linear } from '../../src/ops/matmul/linear.js';
import { matmul } from '../../src/ops/matmul/matmul.js';
import { empty, scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { DTypeError, ShapeError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { describeProduct, numbers, runProduct, type Product } from './matmul-support.js';

const extents = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 130, 300];

/** For each form, sizes drawn so that every extent comes up in every place; then products over several blocks of depth. */
function products(): Product[] {
  const random = new Random(3);
  const made: Product[] = [];
  const pick = () => extents[random.integer(extents.length)] ?? 1;
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      extents.forEach((extent, i) => {
        const [m, n, k] = i % 3 === 0 ? [extent, pick(), pick()] : i % 3 === 1 ? [pick(), extent, pick()] : [pick(), pick(), extent];
        for (const [bias, accumulate, gap] of [[i % 2 === 0, i % 3 === 0, i % 4], [i % 2 === 1, i % 4 === 1, 0]] as const) {
          made.push({ m, n, k, transposeA, transposeB, bias, accumulate, gap, batch: 1 });
        }
      });
      const form = { transposeA, transposeB, bias: true, accumulate: true };
      made.push({ ...form, m: 33, n: 65, k: 1000, gap: 3, batch: 1 });
      made.push({ ...form, m: 3, n: 130, k: 1000, gap: 0, batch: 1 });
      made.push({ ...form, m: 16, n: 17, k: 5000, gap: 0, batch: 1 });
      made.push({ ...form, m: 300, n: 8, k: 300, gap: 1, batch: 1 });
      made.push({ ...form, m: 17, n: 9, k: 5, gap: 2, batch: 40 });
      made.push({ ...form, m: 100, n: 65, k: 130, gap: 0, batch: 3 });
      made.push({ ...form, m: 1, n: 33, k: 7, gap: 0, batch: 5 });
    }
  }
  return made;
}

const reference = useBackend('reference');
const expectations = new Map<Product, Promise<Float64Array>>();
const expected = (product: Product): Promise<Float64Array> => {
  const known = expectations.get(product) ?? runProduct(reference(), product);
  expectations.set(product, known);
  return known;
};

describe.each(compiledKernels)('gemm, %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test.each(products().map((product) => [describeProduct(product), product] as const))('%s', async (_, product) => {
    expectClose(await runProduct(backend(), product), await expected(product), tolerance(product.k), 'c');
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('no depth: only the bias and what c held', async () => {
    const none: Product = { m: 5, n: 17, k: 0, transposeA: false, transposeB: false, bias: true, accumulate: true, gap: 2, batch: 2 };
    for (const product of [none, { ...none, accumulate: false }, { ...none, bias: false }]) {
      expectClose(await runProduct(backend(), product), await runProduct(reference(), product), tolerance(), 'c');
    }
  });
});

/** Too large for the reference: the shared operand has to be packed in pieces. Some elements are summed here. */
describe.each(compiledKernels)('gemm, %s kernels: operands beyond the shared memory', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test.each([
    [1100, 1050, 2100, false, true],
    [500, 4500, 700, true, false],
  ] as const)('[%i,%i] of depth %i', async (m, n, k, transposeA, transposeB) => {
    const values = (size: number, step: number) => Float32Array.from({ length: size }, (_, i) => numbers[(i * step) % numbers.length] ?? NaN);
    const [aValues, bValues] = [values(m * k, 3), values(k * n, 5)];
    const c = scope(() => {
      const a = tensor(backend(), aValues, transposeA ? [k, m] : [m, k]);
      const b = tensor(backend(), bValues, transposeB ? [n, k] : [k, n]);
      const made = empty(backend(), [m, n]);
      gemmInto(a, b, made, { transposeA, transposeB });
      return made;
    });
    const all = await c.exactData();
    c.dispose();
    const rows = Array.from({ length: 60 }, (_, i) => Math.floor((i * (m - 1)) / 59));
    const columns = rows.map((_, i) => Math.floor((((i * 7) % 60) * (n - 1)) / 59));
    const sums = rows.map((row, i) => {
      const column = columns[i] ?? 0;
      let sum = 0;
      for (let d = 0; d < k; d++) {
        sum += (aValues[transposeA ? d * m + row : row * k + d] ?? NaN) * (bValues[transposeB ? column * k + d : d * n + column] ?? NaN);
      }
      return sum;
    });
    expectClose(rows.map((row, i) => all[row * n + (columns[i] ?? 0)] ?? NaN), sums, tolerance(k), 'some of c');
  });
});

describe.each(compiledKernels)('gemm, %s kernels: the same bits', (kernels) => {
  const several: Product[] = [
    { m: 130, n: 300, k: 1000, transposeA: false, transposeB: true, bias: true, accumulate: true, gap: 1, batch: 1 },
    { m: 300, n: 65, k: 3000, transposeA: true, transposeB: false, bias: false, accumulate: true, gap: 0, batch: 1 },
    { m: 80, n: 100, k: 700, transposeA: false, transposeB: false, bias: true, accumulate: false, gap: 0, batch: 2 },
    { m: 3, n: 1000, k: 700, transposeA: false, transposeB: true, bias: true, accumulate: false, gap: 0, batch: 1 },
    { m: 33, n: 31, k: 64, transposeA: false, transposeB: false, bias: false, accumulate: false, gap: 0, batch: 50 },
  ];

  test.each(several.map((product) => [describeProduct(product), product] as const))('%s', async (_, product) => {
    const results: Float64Array[] = [];
    for (const threads of [1, 2, 3]) {
      const backend = await openBackend('cpu', { kernels, threads, poison: true });
      for (let repeat = 0; repeat < 5; repeat++) results.push(await runProduct(backend, product));
      await backend.close();
    }
    const bits = results.map((values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    for (const other of bits) expect(other.equals(bits[0] ?? Buffer.alloc(0))).toBe(true);
  });
});

describe('shapes that do not fit', () => {
  const thrown = (body: (of: (...shape: number[]) => Tensor) => void): unknown => {
    const of = (...shape: number[]) => tensor(reference(), new Float64Array(shape.reduce((size, extent) => size * extent, 1)), shape);
    try {
      scope(() => { body(of); });
    } catch (error) {
      return error;
    }
    return undefined;
  };

  test.each([
    ['linear: x is [2,4]; expected […,K] = [2,5]. Hint: weight is [N,K]: one row an output', (of) => linear(of(2, 4), of(3, 5))],
    ['linear: x is []; expected […,K] = [5]. Hint: weight is [N,K]: one row an output', (of) => linear(of(), of(3, 5))],
    ['linear: weight is [3,5,1]; expected [N,K] (2 axes).', (of) => linear(of(2, 5), of(3, 5, 1))],
    ['linear: bias is [5]; expected [N] = [3].', (of) => linear(of(2, 5), of(3, 5), of(5))],
    ['matmul: a is [4]; expected […,M,K] (2 axes or more).', (of) => matmul(of(4), of(4, 2))],
    ['matmul: b is [3,2]; expected [K,N] = [4,N] for a = [2,4].', (of) => matmul(of(2, 4), of(3, 2))],
    [
      'matmul: b is [2,4,2]; expected [K,N] = [4,N] or […,K,N] = [3,4,N] for a = [3,2,4].',
      (of) => matmul(of(3, 2, 4), of(2, 4, 2)),
    ],
    ['matmul: b is [4]; expected [K,N] = [4,N] for a = [2,4].', (of) => matmul(of(2, 4), of(4))],
  ] satisfies [string, (of: (...shape: number[]) => Tensor) => void][])('%s', (message, body) => {
    const error = thrown(body);
    expect(error).toBeInstanceOf(ShapeError);
    expect((error as ShapeError).message).toBe(message);
    expect(reference().statistics().liveBuffers).toBe(0);
  });

  test('integers have no product', () => {
    const error = thrown((of) => linear(of(2, 3), tensor(reference(), [1, 2, 3], [1, 3], 'i32')));
    expect(error).toBeInstanceOf(DTypeError);
    expect(reference().statistics().liveBuffers).toBe(0);
  });
});
