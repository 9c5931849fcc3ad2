// What the benchmarks of products on a GPU share: random tensors, a slow right product, launches of a chosen form, GPU times.
import * as elapid from '../../dist/index.js';
import { matrixFactor } from '../../dist/wgsl/product/factor.js';
import { gemm } from '../../dist/ops/matmul/kernels.js';

const made = new Map();

/** Values that halves hold exactly, so that f16 and f32 factors give the same product. */
export function values(size, seed = 1) {
  const key = `${String(size)} ${seed % 8}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  let state = seed;
  const array = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    array[i] = ((state >>> 21) - 1024) / 1024;
  }
  made.set(key, array);
  return array;
}

/** c = op(a)·op(b) in float64. */
export function product({ m, n, k, transposeA = false, transposeB = false }, a, b) {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let l = 0; l < k; l++) {
      const left = transposeA ? a[l * m + i] : a[i * k + l];
      for (let j = 0; j < n; j++) c[i * n + j] += left * (transposeB ? b[j * k + l] : b[l * n + j]);
    }
  }
  return c;
}

/** A `gemm` of a form that `make(product)` chooses; factors with vectors of up to `widest` elements. */
export function formed({ m, n, k, transposeA = false, transposeB = false }, { widest, dtypes, halves = false }, make) {
  const [a, b, c] = dtypes;
  const factor = (name, dtype, outer, along) =>
    matrixFactor({
      name, dtype, along,
      outer: `p.${outer}`, depth: 'p.k',
      pitch: name === 'a' ? 'p.lda' : 'p.ldb',
      stride: name === 'a' ? 'p.strideA' : 'p.strideB',
      lanes: widest === 8 && dtype === 'f16' ? 8 : 4,
      halves: halves && widest === 4,
    });
  const whole = {
    m, n, k, batch: 1,
    a: factor('a', a, 'm', transposeA ? 'outer' : 'depth'),
    b: factor('b', b, 'n', transposeB ? 'depth' : 'outer'),
    result: { name: 'c', dtype: c, pitch: 'p.ldc', stride: 'p.strideC', lanes: 4, bias: false, accumulate: false, saturate: false },
  };
  const kernel = { ...gemm, webgpu: () => make(whole) };
  const parameters = [m, n, k, transposeA, transposeB, transposeA ? m : k, transposeB ? k : n, n, 1, 0, 0, 0, 0, 0, 0, 0].map(Number);
  return (backend, x, y, z) => backend.launch(kernel, [x.view, y.view, null, z.view], parameters);
}

/** The tensors of a product; `copies` of b, so that a cache cannot hold them all. */
export function tensors(backend, { m, n, k, transposeA = false, transposeB = false }, dtypes, copies = 1) {
  const make = (shape, dtype, seed) => elapid.tensor(backend, values(shape[0] * shape[1], seed), shape, dtype);
  return {
    a: make(transposeA ? [k, m] : [m, k], dtypes[0], 1),
    b: Array.from({ length: copies }, (_, i) => make(transposeB ? [n, k] : [k, n], dtypes[1], 2 + i)),
    c: elapid.tensor(backend, new Float32Array(m * n), [m, n], dtypes[2]),
  };
}

export function dispose({ a, b, c }) {
  for (const one of [a, ...b, c]) one.dispose();
}

/**
 * Microseconds of the GPU of one `launch(i)`: the least of some rounds' means. An idle GPU lowers its clock: it is kept busy for
 * some time first.
 */
export async function gpuTime(backend, launch, { rounds = 3, launches = 0, warmMs = 100 } = {}) {
  launch(0);
  await backend.synchronize();
  const start = performance.now();
  let [done, batch] = [0, 1];
  let each = Infinity;
  while (performance.now() - start < warmMs) {
    const before = performance.now();
    for (let i = 0; i < batch; i++) launch(done++);
    await backend.synchronize();
    each = (performance.now() - before) / batch;
    batch = Math.max(1, Math.min(512, Math.ceil(10 / each)));
  }
  const count = launches || Math.max(4, Math.min(96, Math.round(10 / each)));
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    backend.startProfile();
    for (let i = 0; i < count; i++) launch(i);
    const times = await backend.kernelTimes();
    best = Math.min(best, (1e3 * times.reduce((sum, { milliseconds }) => sum + milliseconds, 0)) / count);
  }
  return best;
}
