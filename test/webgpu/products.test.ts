import { describe, expect, test } from 'vitest';
import { withConstants } from '../../src/wgsl/product/constants.js';
import { matrixFactor } from '../../src/wgsl/product/factor.js';
import { afterHalving } from '../../src/wgsl/product/halved.js';
import type { Product } from '../../src/wgsl/product/product.js';
import { gemm } from '../../src/ops/matmul/kernels.js';
import { defineKernel, empty, input, launch, output, tensor, type GpuFeatures, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { gpuIsHere, useBackend } from '../support/backends.js';
import { relativeError, tolerance } from '../support/tolerances.js';

const random = new Random(5);
const normal = (size: number) => Float32Array.from({ length: size }, () => random.normal());

describe.runIf(gpuIsHere)('products in forms that this GPU alone would not take', () => {
  const backend = useBackend('webgpu');

  /** c = a·bᵀ by a GPU that lacks what `changes` takes from it; `made` changes the work. */
  async function errorOf(m: number, n: number, k: number, changes: Partial<GpuFeatures>, made: typeof withConstants = (work) => work): Promise<number> {
    const { webgpu } = gemm;
    if (webgpu === undefined) throw new Error('gemm has no WebGPU kernel');
    const kernel: typeof gemm = { ...gemm, webgpu: (given) => made(webgpu({ ...given, gpu: { ...given.gpu, ...changes } }), given.parameters) };
    const [left, right] = [normal(m * k), normal(n * k)];
    const [a, b, c] = [tensor(backend(), left, [m, k]), tensor(backend(), right, [n, k]), empty(backend(), [m, n])] as const;
    const flags = { transposeA: false, transposeB: true, accumulate: false, bf16: false, half: false, saturate: false };
    launch(kernel, { a, b, c }, { m, n, k, ...flags, lda: k, ldb: k, ldc: n, batch: 1, strideA: 0, strideB: 0, strideC: 0 });
    const actual = await c.data();
    for (const one of [a, b, c] as Tensor[]) one.dispose();
    const expected = Float64Array.from({ length: m * n }, (_, i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      let sum = 0;
      for (let j = 0; j < k; j++) sum += (left[row * k + j] ?? NaN) * (right[column * k + j] ?? NaN);
      return sum;
    });
    return relativeError(actual, expected);
  }

  test('few rows, without subgroups and with subgroups of unknown size', async () => {
    expect(await errorOf(3, 21, 530, { subgroups: null })).toBeLessThan(tolerance(530));
    expect(await errorOf(2, 20, 68, { subgroups: { smallest: 4, largest: 32 } })).toBeLessThan(tolerance(68));
  });

  test('a great depth, cut into parts', async () => {
    expect(await errorOf(40, 36, 1028, {})).toBeLessThan(tolerance(1028));
  });

  test('extents and pitches compiled in', async () => {
    // The second is a pipeline of its own: with the numbers of the first it would be wrong.
    expect(await errorOf(72, 100, 68, {}, withConstants)).toBeLessThan(tolerance(68));
    expect(await errorOf(68, 36, 1028, {}, withConstants)).toBeLessThan(tolerance(1028));
  });

  test.each(['depth', 'outer'] as const)('a factor along %s is converted to halves', async (along) => {
    const [n, k, start] = [72, 48, 8] as const;
    const [rows, columns] = along === 'depth' ? [n, k] : [k, n];
    const pitch = columns + 8;
    const names = { name: 'b', outer: 'p.n', depth: 'p.k', pitch: 'p.ldb', stride: '0u' };
    const b = matrixFactor({ ...names, dtype: 'f32', along, lanes: 4, halves: false });
    const result = { name: 'c', dtype: 'f32', pitch: 'p.n', stride: '0u', lanes: 4, bias: false, accumulate: false, saturate: false } as const;
    const whole: Product = { m: 64, n, k, batch: 1, a: b, b, result };
    // Pairs of halves as f32: this GPU need not have f16 to hold them.
    const kernel = defineKernel('halve', {
      buffers: { b: input.f32, halves_b: output.f32 },
      parameters: { n: 'int', k: 'int', ldb: 'int' },
      webgpu: () => ({ dispatches: afterHalving(whole, (times) => times === 64, () => ({ dispatches: [] })).dispatches }),
      reference: () => undefined,
    });
    // Halves exactly, none with all bits of an exponent, and each second one normal: as f32, a pair keeps its bits on the way.
    const numbers = Float32Array.from({ length: start + rows * pitch }, (_, i) => (1 + (i % 1000) / 1024) * (i % 3 === 0 ? -1 : 1));
    const all = tensor(backend(), numbers, [numbers.length]);
    const [given, written] = [all.aliased([rows, columns], start, pitch), empty(backend(), [rows, columns / 2])];
    launch(kernel, { b: given, halves_b: written }, { n, k, ldb: pitch });
    const words = new Uint16Array(Float32Array.from(await written.data()).buffer);
    for (const one of [all, given, written]) one.dispose();
    const halfOf = (value: number) => (value < 0 ? 0x8000 : 0) | 0x3c00 | ((Math.abs(value) - 1) * 1024);
    const expected = Uint16Array.from({ length: rows * columns }, (_, i) => halfOf(numbers[start + Math.floor(i / columns) * pitch + (i % columns)] ?? NaN));
    expect(words).toEqual(expected);
  });
});
