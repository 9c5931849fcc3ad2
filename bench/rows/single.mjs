// Rows of the issue of speed that are neither prefill nor decoding: training, the wasm product, the scan.
import { matmul, scope, selectiveScan } from 'elapid';
import { defaultTrainingOptions, Trainer } from 'elapid/train';
import { mamba130m } from '../lib/model.mjs';
import { openCpu, openModel, productOperations, promptIds } from '../lib/ours.mjs';
import { missingPeers, Peer } from '../lib/peer.mjs';
import { milliseconds, NotAvailable } from '../lib/row.mjs';
import { values } from '../lib/tensors.mjs';

/** @typedef {import('../lib/row.mjs').Row} Row */
/** @typedef {import('elapid').LanguageModel} LanguageModel */

const trainingLength = 256;

/**
 * mamba.py (github.com/alxndrTL/mamba.py), PyTorch with a parallel scan, and ours, on the same two cores of a Xeon with AMX on 2026-11-28:
 * the same model, B=1 L=256, 2 threads. It is no npm package, so it cannot run along. transformers' sequential path gave 7.4 tok/s there.
 */
const mambaPy = /** @type {const} */ ({
  f32: { name: 'mamba.py, PyTorch f32', source: 'stated', value: 51, ours: 217 },
  bf16: { name: 'mamba.py, PyTorch bf16', source: 'stated', value: 64, ours: 380 },
});

/**
 * @param {{name: string, products: string, open: (threads: number) => Promise<{model: LanguageModel, bf16: boolean, close: () => Promise<void>}>}} row
 * @returns {Row}
 */
const trainRow = ({ name, products, open }) => ({
  name,
  what: `mamba-130m, a training step: B=1 L=256, loss, gradients, AdamW; ${products}`,
  unit: 'tok/s',
  better: 'more',
  runs: 3,
  async prepare({ threads }) {
    const { model, bf16, close } = await open(threads);
    const tokens = Int32Array.from(promptIds(8 * trainingLength));
    const options = { ...defaultTrainingOptions(100), batchSize: 1, length: trainingLength };
    const trainer = new Trainer(model, { training: tokens, validation: tokens }, options);
    return {
      ours: async () => (trainingLength / (await milliseconds(() => trainer.trainStep()))) * 1e3,
      peer: mambaPy[bf16 ? 'bf16' : 'f32'],
      limit: {
        probes: [`${bf16 ? 'bf16' : 'fma'}:${threads}`, `exp:${threads}`, `read:${threads}`],
        value(product, exps, gigabytes) {
          const seconds =
            (3 * productOperations(mamba130m, trainingLength, trainingLength)) / product / 1e9 +
            (2 * trainingLength * mamba130m.decays) / exps / 1e9 +
            (28 * mamba130m.all) / gigabytes / 1e9;
          return trainingLength / seconds;
        },
        basis:
          `three times the forward pass's multiplications at the peak of ${bf16 ? 'bf16 products' : 'f32 multiply-adds'}, ` +
          "then the scan's exponentials twice (forward and recomputed), then AdamW's 28 bytes a parameter from memory",
      },
      async close() {
        trainer.dispose();
        await close();
      },
    };
  },
});

const training = trainRow({
  name: 'train-130m',
  products: 'bf16 products where this build has them',
  async open(threads) {
    try {
      return { ...(await openModel(mamba130m, 'f32', { threads, bf16: true })), bf16: true };
    } catch (error) {
      if (!(error instanceof NotAvailable)) throw error;
      return { ...(await openModel(mamba130m, 'f32', { threads })), bf16: false };
    }
  },
});

const trainingF32 = trainRow({
  name: 'train-130m-f32',
  products: 'f32',
  async open(threads) {
    // Without bf16 products the row above is this one.
    await (await openCpu({ threads, bf16: true })).close();
    return { ...(await openModel(mamba130m, 'f32', { threads })), bf16: false };
  },
});

/** @type {Row} */
const wasmGemm = {
  name: 'wasm-gemm-512',
  what: 'product of two 512×512 matrices in wasm, one thread',
  unit: 'GFLOP/s',
  better: 'more',
  runs: 9,
  async prepare() {
    const [size, count] = [512, 3];
    const rate = (/** @type {number} */ ms) => (2 * size ** 3) / ms / 1e6;
    const backend = await openCpu({ threads: 1, kernels: 'wasm' });
    const [a, b] = [values(backend, [size, size]), values(backend, [size, size])];
    const reason = missingPeers();
    const name = 'jax-js (wasm)';
    const peer = reason === undefined ? new Peer('jax.mjs', []) : undefined;
    return {
      async ours() {
        const ms = await milliseconds(async () => {
          for (let i = 0; i < count; i++) {
            const c = scope(() => matmul(a, b));
            await c.data();
            c.dispose();
          }
        });
        return rate(ms / count);
      },
      peer: peer
        ? { name, source: 'measured', run: async () => rate(await peer.call('matmul', size, count)) }
        : { name, source: 'missing', reason: reason ?? '' },
      limit: {
        probes: ['muladd128:1'],
        value: (peak) => peak,
        basis: 'products and sums of 128-bit vectors as separate instructions: SIMD128 has no fused ones',
      },
      async close() {
        await peer?.close();
        for (const matrix of [a, b]) matrix.dispose();
        await backend.close();
      },
    };
  },
};

/**
 * A scan as the model has it: with D, z, bias and softplus.
 * @param {import('elapid').Backend} backend
 * @param {{batch: number, length: number, channels: number, states: number}} extents
 */
export function scanInputs(backend, { batch: B, length: L, channels: E, states: N }) {
  const make = (/** @type {number[]} */ shape, /** @type {(x: number) => number} */ change = (x) => x) => values(backend, shape, change);
  const inputs = {
    u: make([B, L, E]),
    delta: make([B, L, E], (x) => x - 3),
    A: make([E, N], (x) => -1 - 15 * Math.abs(x)),
    B: make([B, L, N]),
    C: make([B, L, N]),
    D: make([E]),
    z: make([B, L, E]),
    deltaBias: make([E]),
  };
  return {
    inputs,
    forward: () => {
      const { u, delta, A, B: b, C, D, z, deltaBias } = inputs;
      return selectiveScan(u, delta, A, b, C, { D, z, deltaBias, deltaSoftplus: true });
    },
    dispose: () => Object.values(inputs).forEach((tensor) => tensor.dispose()),
  };
}

const [length, channels, states] = [2048, 1536, 16];

/** @param {import('elapid').Backend} backend @param {ReturnType<typeof scanInputs>['forward']} forward */
async function scanTime(backend, forward) {
  const count = 4;
  const ms = await milliseconds(async () => {
    for (let i = 0; i < count; i++) scope(() => void forward());
    await backend.synchronize();
  });
  return ms / count;
}

/** @type {Row} */
const scanForward = {
  name: 'scan-forward',
  what: `selective scan forward, B1 E${channels} L${length} N${states}`,
  unit: 'ms',
  better: 'less',
  runs: 9,
  async prepare({ threads }) {
    const backend = await openCpu({ threads });
    const { forward, dispose } = scanInputs(backend, { batch: 1, length, channels, states });
    return {
      ours: () => scanTime(backend, forward),
      limit: {
        probes: [`exp:${threads}`],
        value: (exps) => (length * channels * states) / exps / 1e6,
        basis: 'B·L·E·N exponentials e^(ΔA) at the rate of the same polynomial alone, from and to the first-level cache',
      },
      async close() {
        dispose();
        await backend.close();
      },
    };
  },
};

/** @type {Row} */
const scanThreads = {
  name: 'threads-scan',
  what: `selective scan forward, B1 E${channels} L${length} N${states}: all threads against one`,
  unit: 'ms',
  better: 'less',
  async prepare({ threads }) {
    const many = await openCpu({ threads });
    const one = await openCpu({ threads: 1 });
    const [scanMany, scanOne] = [many, one].map((backend) => scanInputs(backend, { batch: 1, length, channels, states }));
    return {
      ours: () => scanTime(many, /** @type {NonNullable<typeof scanMany>} */ (scanMany).forward),
      peer: {
        name: 'ours, one thread',
        source: 'self',
        run: () => scanTime(one, /** @type {NonNullable<typeof scanOne>} */ (scanOne).forward),
      },
      async close() {
        for (const scan of [scanMany, scanOne]) scan?.dispose();
        await many.close();
        await one.close();
      },
    };
  },
};

export const singleRows = [training, trainingF32, wasmGemm, scanForward];
export { scanThreads };
