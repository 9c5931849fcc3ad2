// Checks products in bf16 on this machine's processor, then times them next to f32. Needs node, package.json, dist and build:
//
//   taskset -c 0,1 node bench/amx-check.mjs [--check]
//
// The checks compare with float64 products of the rounded factors, computed here, and the bits of runs on 1 and 2 threads.
// The table has GFLOP/s, medians of runs in alternation; rounding and packing both factors are part of every product.
// With --check, nothing is timed.
import { openBackend } from '../dist/backend/open.js';
import { roundToBf16 } from '../dist/ops/matmul/bf16.js';
import { gemmInto } from '../dist/ops/matmul/gemm.js';
import { scope, tensor } from '../dist/tensor/index.js';

/** Numbers in (−1, 1), independent for each seed. */
function numbers(size, seed) {
  const values = new Float32Array(size);
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  for (let i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    values[i] = state / 2 ** 31;
  }
  return values;
}

const threads = [1, 2];
const exact = await openBackend('cpu', { threads: 2 });
const backends = [];
for (const count of threads) backends.push(await openBackend('cpu', { threads: count, precision: 'bf16', poison: true }));
console.log(`node ${process.version}, ${backends[1].description}`);

/** Runs a product on a backend and gives what is in c, gaps left out. */
async function run(backend, { m, n, k, transposeA, transposeB, bias, accumulate, gap }, values) {
  const c = scope(() => {
    const matrix = (all, rows, columns) => tensor(backend, all, [rows, columns + gap]).aliased([rows, columns], 0, columns + gap);
    const a = transposeA ? matrix(values.a, k, m) : matrix(values.a, m, k);
    const b = transposeB ? matrix(values.b, n, k) : matrix(values.b, k, n);
    const made = matrix(values.c, m, n);
    gemmInto(a, b, made, { transposeA, transposeB, accumulate, bias: bias ? tensor(backend, values.bias, [n]) : null });
    return made;
  });
  const found = await c.data();
  c.dispose();
  return found;
}

/**
 * The largest error of some elements over the largest element, in units of what the tests allow: 32 roundings of float32 times
 * the root of the depth. NaN where bits differ between runs or thread counts.
 */
async function check(product) {
  const { m, n, k, transposeA, transposeB, bias, accumulate, gap } = product;
  const pitches = { a: (transposeA ? m : k) + gap, b: (transposeB ? k : n) + gap, c: n + gap };
  const values = {
    a: numbers((transposeA ? k : m) * pitches.a, 1),
    b: numbers((transposeB ? n : k) * pitches.b, 2),
    c: numbers(m * pitches.c, 3),
    bias: numbers(n, 4),
  };
  const results = [];
  for (const backend of [...backends, backends[1]]) results.push(await run(backend, product, values));
  for (const result of results) if (!Buffer.from(result.buffer).equals(Buffer.from(results[0].buffer))) return NaN;
  let [worst, largest] = [0, 0];
  // Some 1,500 elements everywhere, and all of the lower and right edge.
  const samples = Array.from({ length: Math.min(m * n, 1500) }, (_, i) => Math.floor((i * m * n) / Math.min(m * n, 1500)));
  for (let j = 0; j < n; j++) samples.push((m - 1) * n + j);
  for (let i = 0; i < m; i++) samples.push(i * n + n - 1);
  for (const at of samples) {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = (bias ? values.bias[j] : 0) + (accumulate ? values.c[i * pitches.c + j] : 0);
    for (let d = 0; d < k; d++) {
      const left = values.a[transposeA ? d * pitches.a + i : i * pitches.a + d];
      const right = values.b[transposeB ? j * pitches.b + d : d * pitches.b + j];
      sum += roundToBf16(left) * roundToBf16(right);
    }
    const error = Math.abs(results[0][at] - sum);
    largest = Math.max(largest, Math.abs(sum));
    if (!(error <= worst)) worst = error;
  }
  return worst / largest / (32 * 2 ** -24 * Math.sqrt(k));
}

const sizes = [
  [700, 800, 1], [530, 517, 2], [417, 500, 3], [130, 160, 31], [129, 145, 32], [131, 159, 33], [65, 127, 64], [48, 113, 100],
  [9, 130, 511], [15, 100, 384], [16, 79, 513], [17, 80, 416], [28, 49, 400], [29, 47, 385], [31, 17, 1000], [32, 16, 1025],
  [33, 15, 1100], [64, 64, 512], [96, 32, 768], [300, 1, 2000], [12, 9, 5000], [70, 66, 2500], [600, 48, 100], [256, 768, 1536],
];
let failures = 0;
let worst = 0;
let count = 0;
for (const transposeA of [false, true]) {
  for (const transposeB of [false, true]) {
    for (const [i, [m, n, k]] of sizes.entries()) {
      for (const [bias, accumulate] of [[false, false], [true, false], [false, true], [true, true]]) {
        const product = { m, n, k, transposeA, transposeB, bias, accumulate, gap: i % 3 };
        const error = await check(product);
        count++;
        worst = Math.max(worst, error);
        if (error <= 1) continue;
        failures++;
        console.log(`WRONG, ${Number.isNaN(error) ? 'not the same bits' : `${error.toFixed(2)} of the allowed error`}: ${JSON.stringify(product)}`);
      }
    }
  }
}
console.log(`${count} products checked, ${failures} wrong; largest error ${(100 * worst).toFixed(1)} % of what is allowed`);
if (failures > 0) process.exitCode = 1;

/** Seconds of one product, from a batch of launches long enough to time. */
async function seconds(backend, launch, repeats) {
  await backend.synchronize();
  const started = performance.now();
  for (let i = 0; i < repeats; i++) launch();
  await backend.synchronize();
  return (performance.now() - started) / 1000 / repeats;
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

if (!process.argv.includes('--check')) {
  console.log('\nGFLOP/s, 2 threads        rows    y = x·Wᵀ  f32   bf16     dx = dy·W  f32   bf16     dW = dyᵀ·x  f32   bf16');
  for (const [inputs, outputs] of [[768, 3072], [1536, 768], [1536, 80], [48, 1536], [768, 50280]]) {
    for (const rows of [256, 512, 2048]) {
      const sides = [exact, backends[1]].map((backend) => ({
        backend,
        x: tensor(backend, numbers(rows * inputs, 1), [rows, inputs]),
        w: tensor(backend, numbers(outputs * inputs, 2), [outputs, inputs]),
        y: tensor(backend, numbers(rows * outputs, 3), [rows, outputs]),
        dw: tensor(backend, numbers(outputs * inputs, 4), [outputs, inputs]),
      }));
      const operations = 2 * rows * inputs * outputs;
      const cells = [];
      for (const product of [
        ({ x, w, y }) => gemmInto(x, w, y, { transposeB: true }),
        ({ x, w, y }) => gemmInto(y, w, x),
        ({ x, y, dw }) => gemmInto(y, x, dw, { transposeA: true }),
      ]) {
        const times = [[], []];
        const repeats = Math.max(1, Math.round(2e9 / operations));
        for (let round = 0; round < (operations > 2e10 ? 4 : 10); round++) {
          // The first round warms up.
          for (const [i, side] of sides.entries()) {
            const time = await seconds(side.backend, () => product(side), repeats);
            if (round > 0) times[i].push(time);
          }
        }
        cells.push(times.map((each) => (operations / median(each) / 1e9).toFixed(0)));
      }
      const row = cells.map(([f32, bf16]) => f32.padStart(16) + bf16.padStart(7)).join('');
      console.log(`${String(inputs).padStart(6)} to ${String(outputs).padEnd(6)}${' '.repeat(6)}${String(rows).padStart(8)} ${row}`);
      for (const { x, w, y, dw } of sides) for (const each of [x, w, y, dw]) each.dispose();
    }
  }
}
for (const backend of [exact, ...backends]) await backend.close();
