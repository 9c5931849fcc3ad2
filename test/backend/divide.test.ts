import { describe, expect, test } from 'vitest';
import { divisionFor } from '../../src/backend/webgpu/divide.js';
import { adamwStep } from '../../src/ops/adamw/kernels.js';
import { gemm } from '../../src/ops/matmul/kernels.js';
import { rmsNormLinear } from '../../src/ops/norm-linear/kernels.js';
import { softmax } from '../../src/ops/softmax/kernels.js';
import type { BufferView, DType, GpuFeatures, GpuWork, Kernel } from '../../src/tensor/index.js';

const gpu = { bindingBytes: 128 * 2 ** 20 } as GpuFeatures;

/** The parameter along which a launch is divided that binds all of its buffers, given by size and dtype. */
function along(
  kernel: Pick<Kernel, 'name'>,
  buffers: Readonly<Record<string, number>>,
  parameters: Readonly<Record<string, number>>,
  { dtype = 'f32', scratch = 0 }: { dtype?: DType; scratch?: number } = {},
): string | undefined {
  const names = Object.keys(buffers);
  const viewOf = (size: number): BufferView => ({ buffer: { dtype, size }, offset: 0, size });
  const views = Object.fromEntries(Object.entries(buffers).map(([name, size]) => [name, viewOf(size)]));
  const work: GpuWork = {
    dispatches: [{ variant: '', code: () => '', buffers: [...names, 'parts'], workgroups: [1] }],
    scratch: { parts: { dtype: 'f32', size: scratch } },
  };
  return divisionFor(kernel as Kernel, views, parameters, work, gpu)?.along;
}

describe('products are divided along what makes the large matrix smaller', () => {
  interface Form {
    readonly m: number;
    readonly n: number;
    readonly k: number;
    readonly batch?: number;
    readonly transposeA?: boolean;
    readonly transposeB?: boolean;
    readonly saturate?: boolean;
    readonly dtype?: DType;
    readonly scratch?: number;
  }
  const alongOf = ({ m, n, k, batch = 1, transposeA = false, transposeB = false, saturate = false, dtype, scratch }: Form) =>
    along(
      gemm,
      { a: batch * m * k, b: batch * k * n, c: batch * m * n },
      {
        ...{ m, n, k, batch, lda: transposeA ? m : k, ldb: transposeB ? k : n, ldc: n },
        ...{ strideA: m * k, strideB: k * n, strideC: m * n },
        ...{ transposeA: Number(transposeA), transposeB: Number(transposeB), saturate: Number(saturate) },
      },
      { ...(dtype && { dtype }), ...(scratch === undefined ? {} : { scratch }) },
    );

  test.each<[what: string, form: Form, along: string | undefined]>([
    ['nothing where everything fits', { m: 2048, n: 1536, k: 768 }, undefined],
    ['a head for one token: outputs', { m: 1, n: 50280, k: 768, transposeB: true, saturate: true }, 'n'],
    ['logits of many tokens: rows', { m: 1334, n: 50280, k: 768, transposeB: true, saturate: true }, 'm'],
    ['logits in half precision, which fit', { m: 1334, n: 40000, k: 768, transposeB: true, dtype: 'f16' }, undefined],
    ['a projection of many tokens: rows', { m: 65536, n: 3072, k: 768, transposeB: true, saturate: true }, 'm'],
    ['the gradient of a weight over many tokens: depth', { m: 3072, n: 768, k: 65536, transposeA: true }, 'k'],
    ['the gradient of a large weight: its rows', { m: 50280, n: 768, k: 512, transposeA: true }, 'm'],
    ['the gradient of an input through a large weight: depth', { m: 512, n: 768, k: 50280 }, 'k'],
    ['many products: between them', { batch: 64, m: 1024, n: 1024, k: 64 }, 'batch'],
    ['sums in parts that are too large: anything', { m: 2048, n: 512, k: 1024, scratch: 2 ** 26 }, 'm'],
  ])('%s', (_, form, expected) => {
    expect(alongOf(form)).toBe(expected);
  });

  test('a sum that saturates never along its depth', () => {
    expect(alongOf({ m: 1, n: 1, k: 2 ** 26 })).toBe('k');
    expect(alongOf({ m: 1, n: 1, k: 2 ** 26, saturate: true })).toBeUndefined();
  });
});

test('rows are taken apart before one row’s outputs are', () => {
  const [columns, outputs] = [768, 50280];
  const launched = (rows: number) => {
    const sizes = { x: rows * columns, weight: outputs * columns, y: rows * outputs };
    return along(rmsNormLinear, sizes, { rows, columns, outputs, xPitch: columns, residualPitch: 0 });
  };
  expect([4, 2, 1].map(launched)).toEqual(['rows', 'rows', 'outputs']);
});

test('a single row that depends on all of itself is not divided', () => {
  const columns = 2 ** 26;
  expect(along(softmax, { x: 2 * columns, y: 2 * columns }, { rows: 2, columns, xPitch: columns })).toBe('rows');
  expect(along(softmax, { x: columns, y: columns }, { rows: 1, columns, xPitch: columns })).toBeUndefined();
});

test('the second part of a step of AdamW knows how many of its parameters decay', () => {
  const { divisions } = adamwStep as unknown as Kernel;
  const [division] = divisions?.({ count: 1000, decayCount: 600 }) ?? [];
  expect([512, 768].map((first) => division?.second?.(first))).toEqual([{ decayCount: 88 }, { decayCount: 0 }]);
});
