// The GPU's figures beside PyTorch's in the same run and mamba_ssm's, measured apart on a GPU of the same kind: a table, and JSON as the
// CPU bench writes it.
//   node bench/gpu/run.mjs [--json FILE] [--only NAME,…] [--python python3]
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBackend } from '../../dist/index.js';
import { gemmInto } from '../../dist/ops/matmul/gemm.js';
import { copyInto } from '../../dist/ops/view/view.js';
import { configurations, constant, decode, median, prefill, timed, train } from './models.mjs';
import { denseRun, switchRun } from './experts.mjs';
import { attentionRun, scanRun, ssdRun } from './sequences.mjs';

const { values: options } = parseArgs({ options: { json: { type: 'string' }, only: { type: 'string' }, python: { type: 'string', default: 'python3' } } });
const wanted = (/** @type {string} */ name) => options.only === undefined || options.only.split(',').includes(name);

const exact = await openBackend('webgpu');
const mixed = /** @type {any} */ (exact).features.f16 ? await openBackend('webgpu', { precision: 'f16' }) : exact;
const half = mixed === exact ? 'f32' : 'f16';
console.log(mixed.description);

/**
 * Milliseconds of a run, in each of seven rounds. A round has as many as take 200 ms: the host may notice its end some milliseconds late.
 * @param {() => void} run
 */
const each = async (run, on = exact) => {
  const rounds = (/** @type {number} */ repeat, /** @type {number} */ count) =>
    timed(on, () => { for (let i = 0; i < repeat; i++) run(); }, count).then((times) => times.map((seconds) => (1000 * seconds) / repeat));
  const repeat = Math.ceil(200 / median(await rounds(20, 3)));
  return rounds(repeat, 7);
};

/** @param {import('./sequences.mjs').Run} made */
async function sequence({ run, dispose }, on = exact) {
  const times = await each(run, on);
  dispose();
  return times;
}

const scan = (/** @type {import('./sequences.mjs').ScanShape} */ shape) => sequence(scanRun(exact, shape, half));
const ssd = (/** @type {{ B: number, L: number, backward?: boolean }} */ shape) => sequence(ssdRun(exact, shape, half));
const attention = (/** @type {{ backward?: boolean }} */ { backward }) => sequence(attentionRun(exact, { B: 8, L: 2048, H: 12, P: 64, backward }, half));

/** Of MoE-Mamba 100M, with as many experts as the CPU's row has. */
const layer = { tokens: 8 * 2048, D: 768, F: 2304, E: 8 };
/** Operations of a layer's products, forward and backward. */
const layerOperations = 12 * layer.tokens * layer.D * layer.F;

/** @param {{ transposeA?: boolean, transposeB?: boolean }} options */
async function gemm(options = {}) {
  const [a, b] = [constant(exact, [4096, 4096], 0.5, half), constant(exact, [4096, 4096], 0.25, half)];
  const c = constant(exact, [4096, 4096], 0, 'f32');
  const times = await each(() => gemmInto(a, b, c, options));
  for (const made of [a, b, c]) made.dispose();
  return times.map((ms) => (2 * 4096 ** 3) / ms / 1e9);
}

async function copy() {
  const [from, to] = [0, 1].map(() => constant(exact, [2 ** 27], 1, 'f32'));
  const times = await each(() => copyInto(from, to));
  for (const made of [from, to]) made.dispose();
  return times.map((ms) => (2 * 2 ** 29) / ms / 1e6);
}

/** Weights of the matrices, which is nearly all of them; the head is the embedding. */
const weights = (/** @type {'130m' | '1.4b'} */ size) => {
  const { dModel, dInner, dState, dtRank, layers, vocabularySize } = configurations[size]().config;
  return layers * dInner * (3 * dModel + 2 * dtRank + 2 * dState) + vocabularySize * dModel;
};
/** Weights of Mamba-2's matrices. */
const mamba2Weights = () => {
  const { dModel, dInner, dState, headSize, layers, vocabularySize } = configurations['mamba2-130m']().config;
  return layers * dModel * (3 * dInner + 2 * dState + dInner / headSize) + vocabularySize * dModel;
};
/** Bytes that a step of decoding moves at least: weights, and states in f32, read and written. */
const decodedBytes = (/** @type {'130m' | '1.4b'} */ size, /** @type {number} */ batch) => {
  const { dInner, dState, layers, vocabularySize } = configurations[size]().config;
  return 2 * weights(size) + batch * (2 * 4 * layers * dInner * (dState + 3) + 4 * vocabularySize);
};
const mamba2DecodedBytes = (/** @type {number} */ batch) => {
  const { dInner, dState, layers, vocabularySize } = configurations['mamba2-130m']().config;
  return 2 * mamba2Weights() + batch * (2 * 4 * layers * (dInner * dState + 3 * (dInner + 2 * dState)) + 4 * vocabularySize);
};
const exponentials = 132 * 16 * 1.98e9;
const size = 8 * 2048 * 1536 * 16;
/** Operations of two products of every pair of positions, a query and a key that it sees. */
const pairs = 2 * 8 * 12 * 2048 * 2049 * 64;

/**
 * Operations of ssd forward in chunks of 64, 24 heads of 64 features and 128 states: into the state, out of it, and half a square for each position.
 * @param {number} tokens
 */
const ssdOperations = (tokens) => tokens * 24 * 64 * (4 * 128 + 64);

/**
 * mamba_ssm 2.3.2 with its CUDA kernels on PyTorch 2.11, in 16 bits, decoding with CUDA graphs; measured on 2026-11-28. By kind of GPU,
 * in the units of the rows.
 * @type {Readonly<Record<string, Readonly<Record<string, number>>>>}
 */
const mambaSsm = {
  H200: {
    'scan-forward': 0.442,
    'scan-train': 2.19,
    'scan-forward-long': 2.9,
    'prefill-130m': 126_800,
    'decode-130m-b1': 1381,
    'decode-130m-b16': 22_530,
    'decode-130m-b128': 129_000,
    'decode-1.4b-b1': 470,
    'decode-mamba2-130m-b1': 1917,
    'decode-mamba2-130m-b16': 19_330,
    'decode-mamba2-130m-b128': 62_330,
    'train-130m': 158_100,
    'ssd-forward': 0.501,
    'ssd-train': 5.6,
    'ssd-forward-long': 2.21,
    'prefill-mamba2-130m': 67_450,
    'train-mamba2-130m': 125_750,
  },
};

/** `limit`: from the measured rates of copying (bytes/s) and of cuBLAS (operations/s), in the row's unit. `beside`: an earlier row to compare with in place of PyTorch's. */
const rows = [
  { name: 'roofline-copy', what: 'copying 512 MiB', unit: 'GB/s', better: 'more', ours: copy },
  { name: 'scan-forward', what: 'scan forward, B8 E1536 L2048 N16, f16 storage', unit: 'ms', better: 'less', ours: () => scan({ B: 8, L: 2048, E: 1536 }), limit: ({ bytes }) => 1e3 * Math.max(size / exponentials, (size / 16) * 8 / bytes), basis: 'exponentials or bytes' },
  { name: 'scan-train', what: 'the same, forward and backward', unit: 'ms', better: 'less', ours: () => scan({ B: 8, L: 2048, E: 1536, backward: true }), limit: ({ bytes }) => 1e3 * Math.max((3 * size) / exponentials, ((size / 16) * 22) / bytes), basis: 'exponentials or bytes' },
  { name: 'scan-forward-long', what: 'scan forward, B1 E1024 L131072', unit: 'ms', better: 'less', ours: () => scan({ B: 1, L: 131072, E: 1024 }), limit: ({ bytes }) => 1e3 * Math.max((1024 * 131072 * 16) / exponentials, (1024 * 131072 * 8) / bytes), basis: 'exponentials or bytes' },
  { name: 'ssd-forward', what: 'SSD forward, B8 L2048 H24 P64 N128, f16 storage', unit: 'ms', better: 'less', ours: () => ssd({ B: 8, L: 2048 }), limit: ({ bytes, operations }) => 1e3 * Math.max(ssdOperations(8 * 2048) / operations, (8 * 2048 * 2 * (2 * 1536 + 2 * 128 + 24)) / bytes), basis: 'operations of the products or bytes' },
  { name: 'ssd-train', what: 'the same, forward and backward', unit: 'ms', better: 'less', ours: () => ssd({ B: 8, L: 2048, backward: true }), limit: ({ bytes, operations }) => 1e3 * Math.max((3 * ssdOperations(8 * 2048)) / operations, (8 * 2048 * 2 * (5 * 1536 + 6 * 128 + 3 * 24)) / bytes), basis: 'operations of the products or bytes' },
  { name: 'ssd-forward-long', what: 'SSD forward, B1 L131072', unit: 'ms', better: 'less', ours: () => ssd({ B: 1, L: 131072 }), limit: ({ bytes, operations }) => 1e3 * Math.max(ssdOperations(131072) / operations, (131072 * 2 * (2 * 1536 + 2 * 128 + 24)) / bytes), basis: 'operations of the products or bytes' },
  { name: 'attention-forward', what: 'causal attention forward, B8 L2048 H12 P64, f16', unit: 'ms', better: 'less', ours: () => attention({}), limit: ({ operations }) => (1e3 * pairs) / operations, basis: 'operations of the products' },
  { name: 'attention-train', what: 'the same, forward and backward', unit: 'ms', better: 'less', ours: () => attention({ backward: true }), limit: ({ operations }) => (3.5e3 * pairs) / operations, basis: 'operations of the products' },
  { name: 'dense-train', what: 'a feed-forward layer of the size that a token uses, all gradients, mixed precision', unit: 'ms', better: 'less', ours: () => sequence(denseRun(mixed, layer, half), mixed), limit: ({ operations }) => (1e3 * layerOperations) / operations, basis: 'operations of the products' },
  { name: 'switch-train', what: `${layer.E} experts, ${layer.tokens} tokens, D${layer.D} F${layer.F}: router, experts, balance loss, all gradients, mixed precision`, unit: 'ms', better: 'less', beside: 'dense-train', ours: () => sequence(switchRun(mixed, layer, half), mixed), limit: ({ operations }) => (1e3 * layerOperations) / operations, basis: 'operations of the products' },
  { name: 'gemm-4096', what: 'product of 4096 × 4096 matrices, f16 to f32', unit: 'TFLOP/s', better: 'more', ours: () => gemm(), limit: ({ operations }) => operations / 1e12, basis: 'cuBLAS' },
  { name: 'gemm-4096-nt', what: 'the same, the right one transposed, as in a linear layer', unit: 'TFLOP/s', better: 'more', ours: () => gemm({ transposeB: true }), limit: ({ operations }) => operations / 1e12, basis: 'cuBLAS' },
  { name: 'gemm-4096-tn', what: 'the same, the left one transposed, as for a weight’s gradient', unit: 'TFLOP/s', better: 'more', ours: () => gemm({ transposeA: true }), limit: ({ operations }) => operations / 1e12, basis: 'cuBLAS' },
  { name: 'prefill-130m', what: 'prompt of 2048 tokens, mamba-130m', unit: 'tok/s', better: 'more', ours: () => prefill(mixed, { dtype: half }), limit: ({ operations }) => operations / (2 * (weights('130m') - 50280 * 768)), basis: 'operations of the products' },
  { name: 'prefill-mamba2-130m', what: 'prompt of 2048 tokens, mamba2-130m', unit: 'tok/s', better: 'more', ours: () => prefill(mixed, { size: 'mamba2-130m', dtype: half }), limit: ({ operations }) => operations / (2 * (mamba2Weights() - 50288 * 768)), basis: 'operations of the products' },
  ...[1, 16, 128].map((batch) => ({ name: `decode-130m-b${batch}`, what: `decoding, mamba-130m, ${batch} sequence${batch > 1 ? 's' : ''}`, unit: 'tok/s', better: 'more', ours: async () => (await decode(mixed, { batch, dtype: half })).rates, limit: ({ bytes }) => (batch * bytes) / decodedBytes('130m', batch), basis: 'bytes of weights and states' })),
  { name: 'decode-1.4b-b1', what: 'decoding, mamba-1.4b, 1 sequence', unit: 'tok/s', better: 'more', ours: async () => (await decode(mixed, { size: '1.4b', dtype: half })).rates, limit: ({ bytes }) => bytes / decodedBytes('1.4b', 1), basis: 'bytes of weights and states' },
  ...[1, 16, 128].map((batch) => ({ name: `decode-mamba2-130m-b${batch}`, what: `decoding, mamba2-130m, ${batch} sequence${batch > 1 ? 's' : ''}`, unit: 'tok/s', better: 'more', ours: async () => (await decode(mixed, { size: 'mamba2-130m', batch, dtype: half })).rates, limit: ({ bytes }) => (batch * bytes) / mamba2DecodedBytes(batch), basis: 'bytes of weights and states' })),
  { name: 'train-130m', what: 'training, mamba-130m, B8 L2048, mixed precision', unit: 'tok/s', better: 'more', ours: async () => (await train(mixed, { rounds: 7 })).rates, limit: ({ operations }) => operations / (6 * weights('130m')), basis: 'operations of the products' },
  { name: 'train-mamba2-130m', what: 'training, mamba2-130m, B8 L2048, mixed precision', unit: 'tok/s', better: 'more', ours: async () => (await train(mixed, { size: 'mamba2-130m', rounds: 7 })).rates, limit: ({ operations }) => operations / (6 * mamba2Weights()), basis: 'operations of the products' },
];

/** By row PyTorch's figure; `model` is the GPU's name. @returns {Record<string, any>} */
function peers() {
  try {
    const script = fileURLToPath(new URL('peer.py', import.meta.url));
    const output = execFileSync(options.python, [script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], timeout: 180_000 });
    return Object.fromEntries(output.trim().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)).map(({ name, peer }) => [name, peer]));
  } catch (error) {
    console.error(`PyTorch is not measured: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    return {};
  }
}

const rounded = (/** @type {number} */ value) => Number(value.toPrecision(4));
const peer = peers();
const kind = Object.keys(mambaSsm).find((name) => String(peer['model']).includes(name));
const rates = { bytes: NaN, operations: (peer['gemm-4096'] ?? NaN) * 1e12 };
const results = [];
const machine = { model: peer['model'] ?? 'unknown', gpu: mixed.description, node: process.version, date: new Date().toISOString().slice(0, 10) };
/** After each row: a run that is cut short leaves what it measured. */
const save = () => options.json !== undefined && writeFileSync(options.json, `${JSON.stringify({ machine, rows: results }, null, 1)}\n`);
for (const { name, what, unit, better, ours: measure, limit, basis, beside } of rows) {
  if (!wanted(name) && name !== 'roofline-copy') continue;
  try {
    const figures = await measure();
    const ours = median(figures);
    if (name === 'roofline-copy') rates.bytes = Math.max(...figures, peer['roofline-copy'] ?? 0) * 1e9;
    const bound = limit?.(rates) ?? NaN;
    const ratio = (/** @type {number} */ mine, /** @type {number} */ theirs) => rounded(better === 'more' ? mine / theirs : theirs / mine);
    const other = beside === undefined ? peer[name] : results.find((row) => row.name === beside)?.ours;
    const published = kind === undefined ? undefined : mambaSsm[kind]?.[name];
    const row = {
      name, what, unit, better,
      ours: rounded(ours), runs: figures.length, spread: [rounded(Math.min(...figures)), rounded(Math.max(...figures))],
      peer: other === undefined ? null : rounded(other), peerName: beside === undefined ? 'PyTorch' : 'the dense layer', ratio: other === undefined ? null : ratio(ours, other),
      published: published ?? null, publishedRatio: published === undefined ? null : ratio(ours, published),
      limit: Number.isFinite(bound) ? rounded(bound) : null, limitShare: Number.isFinite(bound) ? ratio(ours, bound) : null, ...(basis === undefined ? {} : { limitBasis: basis }),
    };
    results.push(row);
    save();
    const percent = row.limitShare === null ? '–' : `${(100 * row.limitShare).toFixed(0)} %`;
    console.log(`${name.padEnd(20)} ${String(row.ours).padStart(9)} ${unit.padEnd(8)} PyTorch ${String(row.peer ?? '–').padStart(8)}  mamba_ssm ${String(row.published ?? '–').padStart(8)} (${row.publishedRatio ?? '–'}×)  ${percent.padStart(5)} of ${row.limit ?? '–'}`);
  } catch (error) {
    console.log(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
await Promise.all([...new Set([exact, mixed])].map((backend) => backend.close()));
