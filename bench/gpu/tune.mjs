// Every sensible form of a product on this GPU, checked first and then timed: what src/wgsl/product/forms.ts chooses by.
//   node bench/gpu/tune.mjs [matrix|large|tiled|few|shapes …]
import * as elapid from '../../dist/index.js';
import { gemmInto } from '../../dist/ops/matmul/gemm.js';
import { fewRowsProduct } from '../../dist/wgsl/product/few-rows.js';
import { matrixBytes, matrixProduct } from '../../dist/wgsl/product/matrix.js';
import { splitsFor } from '../../dist/wgsl/product/product.js';
import { tiledProduct } from '../../dist/wgsl/product/tiled.js';
import { subgroupSize } from '../../dist/tensor/index.js';
import { sampledError } from '../../test/support/sampled-product.js';
import { dispose, formed, gpuTime, product, tensors, values } from './products.mjs';

const parts = process.argv.slice(2);
const wanted = (part) => parts.length === 0 || parts.includes(part);
let backend = await elapid.openBackend('webgpu');
const gpu = backend.features;
console.log(backend.description, JSON.stringify(gpu));
const half = gpu.f16 ? 'f16' : 'f32';

/** Largest error of a form on a small product with edges, relative to the largest element; compiles it. */
async function check(shape, options, make) {
  const small = { ...shape, m: Math.min(shape.m, 264), n: Math.min(shape.n, 392), k: Math.min(shape.k, 160) };
  const { dtypes } = options;
  const t = tensors(backend, small, dtypes);
  formed(small, options, make)(backend, t.a, t.b[0], t.c);
  const [a, b, c] = await Promise.all([t.a.data(), t.b[0].data(), t.c.data()]);
  const right = product(small, a, b);
  let [error, largest] = [0, 0];
  for (let i = 0; i < right.length; i++) {
    const difference = Math.abs(c[i] - right[i]);
    error = difference <= error ? error : difference;
    largest = Math.max(largest, Math.abs(right[i]));
  }
  dispose(t);
  return error / largest;
}

let last = { key: '' };
/** The tensors of a shape, until another is asked for. */
function kept(shape, dtypes, copies) {
  const key = JSON.stringify([shape, dtypes, copies]);
  if (last.key !== key) {
    if (last.t) dispose(last.t);
    last = { key, t: tensors(backend, shape, dtypes, copies) };
  }
  return last.t;
}

async function measure(label, shape, options, make, copies = 1) {
  try {
    const error = await check(shape, options, make);
    const bound = options.dtypes[2] === 'f16' ? 1e-3 : 1e-5;
    if (!(error < bound)) return void console.log(`WRONG ${label}: ${error}`);
    const t = kept(shape, options.dtypes, copies);
    const launch = formed(shape, options, make);
    const time = await gpuTime(backend, (i) => launch(backend, t.a, t.b[i % copies], t.c));
    const rate = (2 * shape.m * shape.n * shape.k) / time / 1e6;
    const bytes = shape.n * shape.k * (options.dtypes[1] === 'f16' ? 2 : 4);
    console.log(`${label.padEnd(62)} ${time.toFixed(1).padStart(9)} us ${rate.toFixed(1).padStart(7)} TFLOP/s ${(bytes / time / 1e3).toFixed(0).padStart(6)} GB/s`);
  } catch (error) {
    console.log(`FAILED ${label}: ${String(error).slice(0, 400)}`);
    backend = await elapid.openBackend('webgpu');
    last = { key: '' };
  }
}

const cube = { m: 4096, n: 4096, k: 4096, transposeB: true };
const tile = (rows, columns, depth, subgroupRows, subgroupColumns, groupRows = 8) =>
  ({ rows, columns, depth, subgroupRows, subgroupColumns, groupRows });
const size = subgroupSize(gpu);

if (wanted('matrix') && gpu.matrices && size !== null) {
  console.log('\n4096³ on matrix units, a·bᵀ');
  const one = async (t, dtypes, options = {}) => {
    const shape = { ...cube, ...options };
    if (matrixBytes({ a: { along: 'depth' }, b: { along: 'depth' } }, t) > gpu.workgroupBytes) return;
    await measure(`${Object.values(t).join('x')} ${dtypes.join('')} ${JSON.stringify(options)}`, shape, { widest: 8, dtypes }, (p) => matrixProduct(gpu, p, t, 1, size));
  };
  for (const [rows, columns, depth, sr, sc] of [
    [128, 128, 32, 64, 64], [128, 256, 32, 64, 64], [256, 128, 32, 64, 64], [128, 128, 64, 64, 64], [128, 128, 32, 64, 32], [128, 128, 16, 64, 64], [64, 64, 32, 32, 32], [128, 64, 32, 64, 32],
  ]) {
    await one(tile(rows, columns, depth, sr, sc), [half, half, 'f32']);
  }
  const t = tile(128, 128, 32, 64, 64);
  for (const transposes of [{ transposeB: false }, { transposeA: true, transposeB: false }, { transposeA: true }]) await one(t, [half, half, 'f32'], transposes);
  await one(t, [half, half, half]);
  await one(t, ['f32', 'f32', 'f32']);
  for (const groupRows of [1, 4, 16]) await one(tile(128, 128, 32, 64, 64, groupRows), [half, half, 'f32']);
}

if (wanted('large') && gpu.matrices && size !== null) {
  console.log('\nlarge products on matrix units, as they are chosen');
  const mixed = await elapid.openBackend('webgpu', { precision: 'f16' });
  const one = async (extents, dtypes, transposes) => {
    const shape = { ...extents, ...transposes };
    const t = tensors(mixed, shape, dtypes);
    const time = await gpuTime(mixed, () => gemmInto(t.a, t.b[0], t.c, transposes), { launches: 24, warmMs: 800 });
    const [a, b] = [values(shape.m * shape.k, 1), values(shape.n * shape.k, 2)];
    const error = sampledError(shape, { a: (i) => a[i], b: (i) => b[i] }, await t.c.data());
    const label = `${transposes.transposeA ? 'aᵀ' : 'a'}·${transposes.transposeB ? 'bᵀ' : 'b'} ${Object.values(extents).join('x')} ${dtypes.join(' ')}`;
    const rate = (2 * shape.m * shape.n * shape.k) / time / 1e6;
    console.log(error < 1e-3 ? `${label.padEnd(40)} ${time.toFixed(1).padStart(9)} us ${rate.toFixed(1).padStart(7)} TFLOP/s` : `WRONG ${label}: ${error}`);
    dispose(t);
  };
  for (const transposes of [{ transposeB: true }, {}, { transposeA: true }, { transposeA: true, transposeB: true }]) {
    for (const c of ['f32', half]) await one({ m: 4096, n: 4096, k: 4096 }, [half, half, c], transposes);
  }
  // A layer of mamba-130m in training, B8 L2048: projections, gradients of their inputs and of a weight.
  for (const [n, k] of [[3072, 768], [768, 1536]]) {
    await one({ m: 16384, n, k }, [half, 'f32', half], { transposeB: true });
    await one({ m: 16384, n: k, k: n }, [half, 'f32', half], {});
    await one({ m: n, n: k, k: 16384 }, [half, half, 'f32'], { transposeA: true });
  }
  await one({ m: 2048, n: 50280, k: 768 }, [half, 'f32', half], { transposeB: true });
  await mixed.close();
}

if (wanted('tiled')) {
  console.log('\n4096³ in f32');
  const forms = [[128, 128, 16, 8, 8], [128, 128, 8, 8, 8], [64, 64, 16, 8, 4], [64, 64, 16, 8, 8], [64, 64, 16, 4, 4], [128, 64, 16, 8, 8], [64, 128, 16, 8, 8], [128, 128, 32, 8, 8]];
  for (const [rows, columns, depth, threadRows, threadColumns] of forms) {
    const t = { rows, columns, depth, threadRows, threadColumns };
    for (const transposes of [{}, ...(rows === 128 && columns === 128 && depth === 16 ? [{ transposeB: false }, { transposeA: true, transposeB: false }] : [])]) {
      await measure(`tiled ${Object.values(t).join('x')} ${JSON.stringify(transposes)}`, { ...cube, ...transposes }, { widest: 4, dtypes: ['f32', 'f32', 'f32'] }, (p) => tiledProduct(gpu, p, t, 1));
    }
  }
}

const copiesOf = (n, k) => Math.max(1, Math.ceil(120e6 / (2 * n * k)));

if (wanted('few')) {
  console.log('\nfew rows, f16 weights that no cache holds');
  for (const [n, k] of [[3072, 768], [768, 1536], [80, 1536], [50280, 768], [8192, 2048], [2048, 4096]]) {
    for (const lanes of [32, 64, 128]) {
      for (const ahead of [1, 2]) {
        const form = { rows: 1, lanes, ahead };
        await measure(`few ${String(n)}x${String(k)} ${Object.values(form).join('x')}`, { m: 1, n, k, transposeB: true }, { widest: 4, dtypes: [half, half, half] }, (p) => fewRowsProduct(gpu, p, form), copiesOf(n, k));
      }
    }
  }
  for (const m of [2, 4, 8, 16, 32]) {
    for (const [lanes, ahead] of [[32, 1], [32, 2], [128, 1]]) {
      const form = { rows: Math.min(m, 8), lanes, ahead };
      await measure(`few ${m} rows 3072x768 ${Object.values(form).join('x')}`, { m, n: 3072, k: 768, transposeB: true }, { widest: 4, dtypes: [half, half, half] }, (p) => fewRowsProduct(gpu, p, form), 26);
    }
  }
}

if (wanted('shapes') && gpu.matrices && size !== null) {
  console.log('\nshapes of mamba-130m on matrix units');
  const shapes = [
    ...[16, 128, 2048].flatMap((m) => [[3072, 768], [80, 1536], [1536, 48], [768, 1536]].map(([n, k]) => ({ m, n, k, transposeB: true }))),
    { m: 128, n: 50280, k: 768, transposeB: true }, { m: 2048, n: 50280, k: 768, transposeB: true },
    { m: 3072, n: 768, k: 16384, transposeA: true }, { m: 80, n: 1536, k: 16384, transposeA: true }, { m: 1536, n: 48, k: 16384, transposeA: true },
    { m: 16384, n: 768, k: 3072 },
  ];
  const tiles = [tile(128, 256, 32, 64, 64), tile(128, 128, 32, 64, 64), tile(128, 128, 32, 64, 32), tile(64, 64, 32, 32, 32), tile(32, 64, 32, 16, 32), tile(16, 64, 64, 16, 16)];
  for (const shape of shapes) {
    for (const t of tiles) {
      if (t.rows >= 2 * shape.m || (shape.m >= 2048 && t.rows < 64 && shape.n > 80) || t.columns >= 4 * shape.n) continue;
      const splits = splitsFor({ ...shape, batch: 1 }, t, 264, 128);
      for (const s of splits > 1 ? [1, splits] : [1]) {
        await measure(`${[shape.m, shape.n, shape.k].join('x')} tile ${[t.rows, t.columns, t.depth].join('x')} splits ${s}`, shape, { widest: 8, dtypes: [half, half, shape.transposeA ? 'f32' : half] }, (p) => matrixProduct(gpu, p, t, s, size));
      }
    }
  }
}

process.exit(0);
