import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { roundToBf16 } from '../../src/ops/matmul/bf16.js';
import { empty, scope } from '../../src/tensor/index.js';
import { linear } from '../../src/ops/matmul/linear.js';
import { ArgumentError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, relativeError, tolerance } from '../support/compare.js';
import { describeProduct, runProduct, type Product } from './matmul-support.js';

/** One rounding of a factor to 8 significant bits. */
const bf16Epsilon = 2 ** -9;

/**
 * Products of every form, most of them with more than the half million multiplications up to which one thread works without
 * matrix units: every remainder of tiles (14, 16 and 32 rows, 16 and 32 columns), of pairs and of 32 steps of depth.
 */
function products(): Product[] {
  const made: Product[] = [];
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      const form = { transposeA, transposeB, bias: false, accumulate: false, gap: 0, batch: 1 };
      const [bias, accumulate] = [true, true];
      made.push(
        { ...form, m: 9, n: 1, k: 1, bias },
        { ...form, m: 40, n: 33, k: 65, accumulate },
        { ...form, m: 700, n: 800, k: 1, gap: 1 },
        { ...form, m: 530, n: 517, k: 2, bias },
        { ...form, m: 417, n: 500, k: 3, accumulate },
        { ...form, m: 130, n: 160, k: 31, bias, accumulate },
        { ...form, m: 129, n: 145, k: 32, gap: 2 },
        { ...form, m: 131, n: 159, k: 33, bias, gap: 3 },
        { ...form, m: 65, n: 127, k: 64, accumulate, gap: 1 },
        { ...form, m: 48, n: 113, k: 100, bias, accumulate },
        { ...form, m: 9, n: 130, k: 511, bias },
        { ...form, m: 15, n: 100, k: 384, accumulate },
        { ...form, m: 16, n: 79, k: 513, bias, gap: 5 },
        { ...form, m: 17, n: 80, k: 416, accumulate },
        { ...form, m: 28, n: 49, k: 400 },
        { ...form, m: 29, n: 47, k: 385, bias },
        { ...form, m: 31, n: 17, k: 1000, bias, accumulate, gap: 1 },
        { ...form, m: 32, n: 16, k: 1025, bias },
        { ...form, m: 33, n: 15, k: 1100, accumulate },
        { ...form, m: 300, n: 1, k: 2000, bias },
        { ...form, m: 12, n: 9, k: 5000, accumulate, gap: 1 },
        { ...form, m: 70, n: 66, k: 2500, bias, accumulate },
        { ...form, m: 64, n: 97, k: 96, batch: 3, accumulate, gap: 1 },
        { ...form, m: 13, n: 9, k: 5, batch: 40, bias },
      );
    }
  }
  return made;
}

const reference = useBackend('reference', { precision: 'bf16' });
const exact = useBackend('reference');
const known = new Map<Product, Promise<Float64Array>>();
const expected = (product: Product): Promise<Float64Array> => {
  const found = known.get(product) ?? runProduct(reference(), product);
  known.set(product, found);
  return found;
};

describe.each(compiledKernels)('gemm in bf16, %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels, precision: 'bf16' });

  // The reference rounds the factors likewise, so that only the order of float32 sums is left between the two.
  test.each(products().map((product) => [describeProduct(product), product] as const))('%s', async (_, product) => {
    expectClose(await runProduct(backend(), product), await expected(product), tolerance(product.k), 'c');
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('the same bits on 1, 2 and 3 threads', async () => {
    const several: Product[] = [
      { m: 130, n: 300, k: 1000, transposeA: false, transposeB: true, bias: true, accumulate: true, gap: 1, batch: 1 },
      { m: 300, n: 65, k: 3000, transposeA: true, transposeB: false, bias: false, accumulate: true, gap: 0, batch: 1 },
      { m: 80, n: 200, k: 700, transposeA: false, transposeB: false, bias: true, accumulate: false, gap: 0, batch: 2 },
    ];
    for (const product of several) {
      const results: Float64Array[] = [];
      for (const threads of [1, 2, 3]) {
        const other = await openBackend('cpu', { kernels, threads, precision: 'bf16', poison: true });
        for (let repeat = 0; repeat < 3; repeat++) results.push(await runProduct(other, product));
        await other.close();
      }
      const bits = results.map((values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength));
      for (const other of bits) expect(other.equals(bits[0] ?? Buffer.alloc(0))).toBe(true);
    }
  });

  test('a few rows keep their digits', async () => {
    const product: Product = { m: 8, n: 130, k: 700, transposeA: false, transposeB: true, bias: true, accumulate: false, gap: 0, batch: 1 };
    expectClose(await runProduct(backend(), product), await runProduct(exact(), product), tolerance(product.k), 'c');
  });

  test('NaN and infinity come through', async () => {
    for (const [value, result] of [[NaN, NaN], [Infinity, Infinity], [3.4e38, Infinity]] as const) {
      const y = scope(() => {
        const x = empty(backend(), [40, 200]);
        const weight = empty(backend(), [80, 200]);
        const ones = (size: number, first: number) => Float32Array.from({ length: size }, (_, i) => (i === 0 ? first : 1));
        backend().write(x.view, ones(x.size, value));
        backend().write(weight.view, ones(weight.size, 1));
        return linear(x, weight);
      });
      const values = await y.exactData();
      y.dispose();
      expect(values[0]).toBe(result);
      expect(values[80]).toBe(200);
    }
  });

  test('a captured product is rounded as well', async () => {
    const product: Product = { m: 40, n: 130, k: 300, transposeA: false, transposeB: true, bias: true, accumulate: false, gap: 0, batch: 1 };
    const values = (size: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(i));
    const run = async (on: ReturnType<typeof backend>, captured: boolean) => {
      const [x, weight] = [empty(on, [product.m, product.k]), empty(on, [product.n, product.k])];
      for (const each of [x, weight]) on.write(each.view, values(each.size));
      let y = x;
      const step = () => {
        y = linear(x, weight);
      };
      const program = captured ? on.capture(step) : null;
      if (program === null) step();
      else program.replay();
      const result = await y.exactData();
      for (const each of [x, weight, y]) each.dispose();
      program?.dispose();
      return result;
    };
    expect(await run(backend(), true)).toEqual(await run(backend(), false));
    expectClose(await run(backend(), true), await run(reference(), false), tolerance(product.k), 'c');
  });
});

describe('bfloat16', () => {
  test('rounds to nearest, ties to even', () => {
    for (const [x, rounded] of [
      [1, 1],
      [-0, -0],
      [1 + 2 ** -9, 1],
      [1 + 2 ** -8, 1],
      [1 + 2 ** -8 + 2 ** -20, 1 + 2 ** -7],
      [1 + 3 * 2 ** -8, 1 + 2 ** -6],
      [-1 - 3 * 2 ** -9, -1 - 2 ** -7],
      [3.4e38, Infinity],
      [Infinity, Infinity],
      [NaN, NaN],
    ] as const) {
      expect(roundToBf16(x)).toBe(rounded);
    }
  });

  test('products differ from exact ones by what rounding explains', async () => {
    const product: Product = { m: 40, n: 50, k: 600, transposeA: false, transposeB: true, bias: false, accumulate: false, gap: 0, batch: 1 };
    const error = relativeError(await runProduct(reference(), product), await runProduct(exact(), product));
    // Two factors, each off by at most one rounding; errors of a sum add up as a random walk, as the sum does.
    expect(error).toBeLessThan(2 * bf16Epsilon);
    expect(error).toBeGreaterThan(bf16Epsilon / 100);
  });

  test('an unknown precision, or one of another backend, is refused', async () => {
    await expect(openBackend('cpu', { precision: 'f64' as 'bf16' })).rejects.toThrow(ArgumentError);
    await expect(openBackend('cpu', { precision: 'f16' })).rejects.toThrow("openBackend: precision is f16; expected 'f32' or 'bf16' on cpu.");
    await expect(openBackend('webgpu', { precision: 'bf16' })).rejects.toThrow("openBackend: precision is bf16; expected 'f32' or 'f16' on webgpu.");
  });
});
