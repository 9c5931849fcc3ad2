import { describe, expect, test } from 'vitest';
import { gemm } from '../../src/ops/matmul/kernels.js';
import { empty, launch, tensor, type GpuFeatures, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { gpuIsHere, useBackend } from '../support/backends.js';
import { relativeError, tolerance } from '../support/tolerances.js';

const random = new Random(5);
const normal = (size: number) => Float32Array.from({ length: size }, () => random.normal());

describe.runIf(gpuIsHere)('products in forms that this GPU alone would not take', () => {
  const backend = useBackend('webgpu');

  /** c = a·bᵀ by a GPU that lacks what `changes` takes from it. */
  async function errorOf(m: number, n: number, k: number, changes: Partial<GpuFeatures>): Promise<number> {
    const { webgpu } = gemm;
    if (webgpu === undefined) throw new Error('gemm has no WebGPU kernel');
    const kernel: typeof gemm = { ...gemm, webgpu: (given) => webgpu({ ...given, gpu: { ...given.gpu, ...changes } }) };
    const [left, right] = [normal(m * k), normal(n * k)];
    const [a, b, c] = [tensor(backend(), left, [m, k]), tensor(backend(), right, [n, k]), empty(backend(), [m, n])] as const;
    const flags = { transposeA: false, transposeB: true, accumulate: false, bf16: false, half: false, saturate: false };
    launch(kernel, { a, b, c }, { m, n, k, ...flags, lda: k, ldb: k, ldc: n, batch: 1, strideA: 0, strideB: 0, strideC: 0 });
    const actual = await c.data();
    for (const made of [a, b, c] as Tensor[]) made.dispose();
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
});
