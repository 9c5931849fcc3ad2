import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { add, affine } from '../../src/ops/elementwise/elementwise.js';
import { linear, packWeight } from '../../src/ops/index.js';
import { gemmInto } from '../../src/ops/matmul/gemm.js';
import { empty, packedDTypes, scope, tensor, withoutScope, type Backend, type Tensor } from '../../src/tensor/index.js';
import { BackendError, DisposedError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';

describe.each(compiledKernels)('the stream of the %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('runs launches and writes in order', async () => {
    const x = withoutScope(() => tensor(backend(), [1, 2, 3], [3]));
    const early = withoutScope(() => affine(x, 10));
    x.write([4, 5, 6]);
    const late = withoutScope(() => affine(x, 10));
    expect([...(await early.data())]).toEqual([10, 20, 30]);
    expect([...(await late.data())]).toEqual([40, 50, 60]);
    for (const one of [x, early, late]) one.dispose();
  });

  test('fills the array it is given, if it fits', async () => {
    const x = withoutScope(() => tensor(backend(), [1, 2, 3], [3]));
    const first = await x.data();
    x.write([4, 5, 6]);
    expect(await x.data(first)).toBe(first);
    expect([...first]).toEqual([4, 5, 6]);
    for (const other of [new Float32Array(4), new Float32Array(2), new Int32Array(3)]) {
      const values = await x.data(other as Float32Array);
      expect(values).not.toBe(other);
      expect([...values]).toEqual([4, 5, 6]);
    }
    x.dispose();
  });

  test('keeps reused memory in order', async () => {
    // Each sum is freed at once and its memory taken by the next: 500 launches over two blocks.
    const total = scope(() => {
      let running = tensor(backend(), new Float32Array(1000), [1000]);
      const one = tensor(backend(), new Float32Array(1000).fill(1), [1000]);
      for (let i = 0; i < 500; i++) {
        const next = add(running, one);
        running.dispose();
        running = next;
      }
      return running;
    });
    expect(new Set(await total.data())).toEqual(new Set([500]));
    total.dispose();
  });

  test('fills new memory with NaN in tests', async () => {
    const fresh = withoutScope(() => empty(backend(), [100]));
    expect([...(await fresh.data())].every(Number.isNaN)).toBe(true);
    fresh.dispose();
  });

  test('replays captured launches on new inputs', async () => {
    const x = withoutScope(() => tensor(backend(), [1, 2], [2]));
    let result: Tensor | undefined;
    const before = backend().statistics().launches;
    const program = backend().capture(() => {
      result = withoutScope(() => scope(() => add(affine(x, 2), affine(x, 0, 100))));
    });
    for (const values of [[1, 2], [3, 4], [5, 6]]) {
      x.write(values);
      program.replay();
      expect([...((await result?.data()) ?? [])]).toEqual(values.map((value) => 2 * value + 100));
    }
    expect(program.launches).toBeGreaterThanOrEqual(3);
    expect(backend().statistics().launches).toBeGreaterThan(before);
    program.dispose();
    for (const one of [x, result]) one?.dispose();
  });

  test('a program’s memory is not given to others while it lives', async () => {
    const x = withoutScope(() => tensor(backend(), new Float32Array(64).fill(1), [64]));
    let result: Tensor | undefined;
    const program = backend().capture(() => {
      result = withoutScope(() => scope(() => affine(affine(affine(x, 2), 2), 2)));
    });
    const bystanders = withoutScope(() => Array.from({ length: 8 }, () => tensor(backend(), new Float32Array(64).fill(7), [64])));
    program.replay();
    for (const bystander of bystanders) expect(new Set(await bystander.data())).toEqual(new Set([7]));
    expect(new Set((await result?.data()) ?? [])).toEqual(new Set([8]));
    program.dispose();
    for (const one of [x, result, ...bystanders]) one?.dispose();
  });

  test('capture refuses what it cannot record, and recovers', async () => {
    const x = withoutScope(() => tensor(backend(), [1], [1]));
    expect(() => backend().capture(() => void tensor(backend(), [1], [1]))).toThrow(BackendError);
    expect(() => backend().capture(() => backend().capture(() => undefined))).toThrow(/already capturing/);
    const y = withoutScope(() => affine(x, 3));
    expect(await y.item()).toBe(3);
    for (const one of [x, y]) one.dispose();
  });

  test('the event loop stays free while kernels run', async () => {
    const size = 700;
    const [a, c] = withoutScope(() => [tensor(backend(), new Float32Array(size * size).fill(0.5), [size, size]), empty(backend(), [size, size])]);
    for (let i = 0; i < 40; i++) gemmInto(a, a, c);
    let [turns, finished] = [0, false];
    const end = backend()
      .synchronize()
      .then(() => {
        finished = true;
      });
    while (!finished) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await end;
    // A loop that is blocked has a turn or two, to be told that all is done; a free one thousands.
    expect(turns).toBeGreaterThan(10);
    for (const one of [a, c]) one.dispose();
  });

  test('a tensor that was freed cannot be used', () => {
    const x = withoutScope(() => tensor(backend(), [1], [1]));
    x.dispose();
    x.dispose();
    expect(() => affine(x, 2)).toThrow(DisposedError);
  });

  test('tensors of two backends do not mix', async () => {
    const other = await openBackend('reference');
    const [x, y] = withoutScope(() => [tensor(backend(), [1], [1]), tensor(other, [1], [1])]);
    expect(() => scope(() => add(x, y))).toThrow(/expected on cpu/);
    for (const one of [x, y]) one.dispose();
  });
});

/** A chain of products with weights of these shapes in every format, which threads that wait may read ahead of. */
function products(backend: Backend, rows: number): Tensor {
  const sizes = [96, 700, 1, 33, 600, 96];
  const values = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * i) / 8);
  return withoutScope(() =>
    scope(() => {
      let x = tensor(backend, values(rows * 96), [rows, 96]);
      for (const dtype of ['f32', ...packedDTypes] as const) {
        const weights = sizes.slice(1).map((size, i) => tensor(backend, values(size * (sizes[i] ?? 0)), [size, sizes[i] ?? 0]));
        for (const weight of weights.map((one) => (dtype === 'f32' ? one : packWeight(one, dtype)))) x = affine(linear(x, weight), 1, 0.1);
      }
      return x;
    }),
  );
}

describe.each(compiledKernels)('products of few rows one after another, %s', (kernels) => {
  test.each([0, 1, 17])('%i rows: the same bits on 1, 2 and 3 threads', async (rows) => {
    const results: Uint8Array[] = [];
    for (const threads of [1, 2, 3]) {
      const backend = await openBackend('cpu', { kernels, threads, poison: true });
      const y = products(backend, rows);
      const values = await y.data();
      expect(values).toHaveLength(rows * 96);
      expect(values.every(Number.isFinite)).toBe(true);
      results.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      y.dispose();
      await backend.close();
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });
});

describe('closing', () => {
  test.each(compiledKernels)('%s: launches under way finish, later ones are refused', async (kernels) => {
    const backend = await openBackend('cpu', { kernels, threads: 2 });
    const x = withoutScope(() => tensor(backend, new Float32Array(100_000).fill(1), [100_000]));
    const y = withoutScope(() => affine(x, 2));
    for (const one of [x, y, products(backend, 1)]) one.dispose();
    await backend.close();
    expect(() => tensor(backend, [1], [1])).toThrow(/closed/);
  });

  test('bad options are refused', async () => {
    await expect(openBackend('gpu' as 'cpu')).rejects.toThrow(/kind is gpu/);
  });
});
