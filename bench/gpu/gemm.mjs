// Products on this GPU in the forms that are chosen: time, TFLOP/s, bytes of weights a second and their share of what a copy moves.
//   node bench/gpu/gemm.mjs
import * as elapid from '../../dist/index.js';
import { gemmInto } from '../../dist/ops/matmul/gemm.js';
import { linearPackedInto, packWeight } from '../../dist/ops/packed/packed.js';
import { copyInto } from '../../dist/ops/view/view.js';
import { dispose, gpuTime, tensors } from './products.mjs';

const backend = await elapid.openBackend('webgpu');
const half = backend.features.f16 ? 'f16' : 'f32';
const bytesOf = { f32: 4, f16: 2, bf16: 2, int8: 1.0625, int4: 0.5625 };
console.log(backend.description);

const copied = 2 ** 28;
const [from, to] = [0, 1].map(() => elapid.empty(backend, [copied / 4]));
const bandwidth = (2 * copied) / (await gpuTime(backend, () => copyInto(from, to)));
for (const one of [from, to]) one.dispose();
console.log(`copy: ${(bandwidth / 1e3).toFixed(0)} GB/s`);

function report(name, { m, n, k }, bytes, time) {
  const rate = bytes / time;
  console.log(
    `${name.padEnd(28)} ${time.toFixed(1).padStart(9)} us ${((2 * m * n * k) / time / 1e6).toFixed(1).padStart(7)} TFLOP/s ` +
      `${(rate / 1e3).toFixed(0).padStart(6)} GB/s ${((100 * rate) / bandwidth).toFixed(0).padStart(4)} %`,
  );
}

/** Weights for decoding come from memory: so many that no cache holds them. */
const copiesOf = (m, weightBytes) => (m <= 128 ? Math.min(200, Math.max(1, Math.ceil(120e6 / weightBytes))) : 1);

const weights = [[3072, 768], [80, 1536], [1536, 48], [768, 1536]];
const shapes = [
  { m: 4096, n: 4096, k: 4096, transposeB: true },
  ...[1, 8, 16, 128, 2048, 16384].flatMap((m) => weights.map(([n, k]) => ({ m, n, k, transposeB: true }))),
  ...[1, 128].map((m) => ({ m, n: 50280, k: 768, transposeB: true })),
  { m: 1, n: 8192, k: 2048, transposeB: true },
  { m: 3072, n: 768, k: 16384, transposeA: true },
  { m: 80, n: 1536, k: 16384, transposeA: true },
  { m: 16384, n: 768, k: 3072 },
];
for (const shape of shapes) {
  const { m, n, k, transposeA = false, transposeB = false } = shape;
  for (const dtype of new Set(m > 2048 ? [half] : [half, 'f32'])) {
    const bytes = n * k * bytesOf[dtype];
    const t = tensors(backend, shape, [dtype, dtype, dtype], copiesOf(m, bytes));
    const time = await gpuTime(backend, (i) => gemmInto(t.a, t.b[i % t.b.length], t.c, { transposeA, transposeB }));
    report(`${dtype} ${[m, n, k].join('x')}${transposeA ? ' aT' : ''}${transposeB ? ' bT' : ''}`, shape, bytes, time);
    dispose(t);
  }
}

for (const dtype of ['bf16', 'int8', 'int4']) {
  for (const [n, k] of [...weights, [50280, 768], [8192, 2048]]) {
    const bytes = n * k * bytesOf[dtype];
    const whole = elapid.tensor(backend, () => new Float32Array(n * k).fill(0.25), [n, k]);
    const packed = Array.from({ length: copiesOf(1, bytes) }, () => packWeight(whole, dtype));
    for (const m of [1, 8, 16, 128]) {
      const [a, c] = [elapid.tensor(backend, () => new Float32Array(m * k).fill(0.5), [m, k]), elapid.empty(backend, [m, n])];
      const time = await gpuTime(backend, (i) => linearPackedInto(a, packed[i % packed.length], c, null));
      report(`${dtype} ${[m, n, k].join('x')}`, { m, n, k }, bytes, time);
      for (const one of [a, c]) one.dispose();
    }
    for (const one of [...packed, whole]) one.dispose();
  }
}
await backend.close();
