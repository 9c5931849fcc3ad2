// Models of mamba-130m's size, prefill and decode, against llama.cpp.
import { generateTokens, prefill } from 'elapid/generate';
import { ggufFile, mamba130m, mamba2130m, transformer125m } from '../lib/model.mjs';
import { openModel, productOperations, promptIds } from '../lib/ours.mjs';
import { missingPeers, Peer } from '../lib/peer.mjs';
import { milliseconds, NotAvailable } from '../lib/row.mjs';

/** @typedef {import('../lib/row.mjs').Row} Row */
/** @typedef {import('../lib/row.mjs').Other} Other */
/** @typedef {import('../lib/ours.mjs').Format} Format */
/** @typedef {import('../lib/model.mjs').BenchModel} BenchModel */
/** @typedef {import('elapid').LanguageModel} LanguageModel */

const promptLength = 512;
const decodedTokens = 64;
const shortPrompt = promptIds(8);
const peerFormat = /** @type {const} */ ({ f32: 'f32', bf16: 'f16', int8: 'q8_0' });

/** Tokens a second through a prompt of 512, up to the logits after it. @param {LanguageModel} model */
async function prefillRate(model) {
  const state = model.newState(1);
  const ms = await milliseconds(() => prefill(model, promptIds(promptLength), state));
  state.dispose();
  return (promptLength / ms) * 1e3;
}

/** Tokens a second, greedy, from the first after the prompt on. @param {LanguageModel} model */
async function decodeRate(model) {
  const tokens = generateTokens(model, shortPrompt, { temperature: 0, maxTokens: decodedTokens + 1 });
  await tokens.next();
  const start = performance.now();
  for (let i = 0; i < decodedTokens; i++) await tokens.next();
  const ms = performance.now() - start;
  await tokens.return();
  return (decodedTokens / ms) * 1e3;
}

/**
 * llama.cpp on the same weights. In float32 it must also choose the same tokens: then both sides do the same work.
 * @param {BenchModel} of
 * @param {'f32' | 'f16' | 'q8_0'} type
 * @param {'prefill' | 'decode'} work
 * @param {number} threads
 * @param {LanguageModel} model
 * @returns {Promise<{peer: Other, close: () => Promise<void>}>}
 */
async function llama(of, type, work, threads, model) {
  const name = `llama.cpp ${type} (node-llama-cpp)`;
  const reason = missingPeers();
  if (reason !== undefined) return { peer: { name, source: 'missing', reason }, close: () => Promise.resolve() };
  const peer = new Peer('llama.mjs', [await ggufFile(of, type), String(threads)]);
  if (type === 'f32') await compareTokens(peer, model);
  const run =
    work === 'prefill'
      ? async () => (promptLength / (await peer.call('prefill', promptIds(promptLength)))) * 1e3
      : async () => 1e3 / (await peer.call('decode', shortPrompt, decodedTokens));
  return { peer: { name, source: 'measured', run }, close: () => peer.close() };
}

/** @param {Peer} peer @param {LanguageModel} model */
async function compareTokens(peer, model) {
  const count = 8;
  const ours = [];
  for await (const id of generateTokens(model, shortPrompt, { temperature: 0, maxTokens: count })) ours.push(id);
  const theirs = await peer.call('tokens', shortPrompt, count);
  if (ours.join() !== theirs.join()) throw new Error(`llama.cpp and ours disagree: ${theirs.join()} and ${ours.join()}`);
}

/** Begins the names of rows: mamba-130m's came first. @param {BenchModel} of */
const prefix = (of) => (of === mamba130m ? '' : of === mamba2130m ? 'mamba2-' : 'transformer-');

/** @param {BenchModel} of @param {'f32' | 'bf16'} format @returns {Row} */
const prefillRow = (of, format) => ({
  name: `${prefix(of)}prefill-512-${format}`,
  what: `${of.name}, a prompt of 512 tokens, ${format}`,
  unit: 'tok/s',
  better: 'more',
  async prepare({ threads }) {
    const { model, close, products } = await loadForPrefill(of, format, threads);
    const other = await llama(of, peerFormat[format], 'prefill', threads, model);
    const unit = products === 'bf16' ? 'bf16' : 'fma';
    return {
      ours: () => prefillRate(model),
      peer: other.peer,
      limit: {
        probes: [`${unit}:${threads}`, `exp:${threads}`],
        value: (products, exps) =>
          promptLength / (productOperations(of, promptLength, 1) / products / 1e9 + (promptLength * of.decays) / exps / 1e9),
        basis:
          `the products' multiplications at the peak of ${products === 'bf16' ? 'bf16 products' : 'f32 multiply-adds'}` +
          (of.decays > 0 ? ", then the scan's exponentials at their peak" : of.pairOperations > 0 ? ", attention's included" : ''),
      },
      async close() {
        await other.close();
        await close();
      },
    };
  },
});

/**
 * In bf16: weights in bf16, and products too where the machine has them. Nothing is then converted on the way.
 * @param {BenchModel} of @param {'f32' | 'bf16'} format @param {number} threads
 */
async function loadForPrefill(of, format, threads) {
  if (format === 'bf16') {
    try {
      return { ...(await openModel(of, 'bf16', { threads, bf16: true })), products: 'bf16' };
    } catch (error) {
      if (!(error instanceof NotAvailable)) throw error;
    }
  }
  return { ...(await openModel(of, format, { threads })), products: 'f32' };
}

/** @param {BenchModel} of @param {Format} format @param {number} sizeBytes @param {number} threads */
const memoryLimit = ({ stateBytes }, format, sizeBytes, threads) => ({
  probes: [`read:${threads}`],
  value: (/** @type {number} */ gigabytes) => (gigabytes * 1e9) / (sizeBytes + 2 * stateBytes),
  basis: `reading all parameters as they lie in memory (${format}: ${(sizeBytes / 1e6).toFixed(0)} MB) for each token, and reading and writing the state (${(stateBytes / 1e6).toFixed(1)} MB)`,
});

/** @param {BenchModel} of @param {'f32' | 'bf16' | 'int8'} format @returns {Row} */
const decodeRow = (of, format) => ({
  name: `${prefix(of)}decode-${format}`,
  what: `${of.name}, one token after another, weights in ${format}`,
  unit: 'tok/s',
  better: 'more',
  async prepare({ threads }) {
    const { model, sizeBytes, close } = await openModel(of, format, { threads });
    const other = await llama(of, peerFormat[format], 'decode', threads, model);
    return {
      ours: () => decodeRate(model),
      peer: other.peer,
      limit: memoryLimit(of, format, sizeBytes, threads),
      async close() {
        await other.close();
        await close();
      },
    };
  },
});

/** @type {Row} */
const decodeInt4 = {
  name: 'decode-int4',
  what: 'mamba-130m, one token after another, weights in int4',
  unit: 'tok/s',
  better: 'more',
  async prepare({ threads }) {
    const four = await openModel(mamba130m, 'int4', { threads });
    const eight = await openModel(mamba130m, 'int8', { threads });
    return {
      ours: () => decodeRate(four.model),
      peer: { name: 'ours, int8', source: 'self', run: () => decodeRate(eight.model) },
      limit: memoryLimit(mamba130m, 'int4', four.sizeBytes, threads),
      async close() {
        await four.close();
        await eight.close();
      },
    };
  },
};

/**
 * The same work on all threads and on one.
 * @param {string} name
 * @param {string} what
 * @param {(model: LanguageModel) => Promise<number>} rate
 * @returns {Row}
 */
const threadsRow = (name, what, rate) => ({
  name,
  what: `mamba-130m f32, ${what}: all threads against one`,
  unit: 'tok/s',
  better: 'more',
  runs: 3,
  async prepare({ threads }) {
    const many = await openModel(mamba130m, 'f32', { threads });
    const one = await openModel(mamba130m, 'f32', { threads: 1 });
    return {
      ours: () => rate(many.model),
      peer: { name: 'ours, one thread', source: 'self', run: () => rate(one.model) },
      async close() {
        await many.close();
        await one.close();
      },
    };
  },
});

export const modelRows = [
  prefillRow(mamba130m, 'f32'),
  prefillRow(mamba130m, 'bf16'),
  decodeRow(mamba130m, 'f32'),
  decodeRow(mamba130m, 'bf16'),
  decodeRow(mamba130m, 'int8'),
  decodeInt4,
  prefillRow(mamba2130m, 'f32'),
  prefillRow(mamba2130m, 'bf16'),
  decodeRow(mamba2130m, 'f32'),
  decodeRow(mamba2130m, 'bf16'),
  decodeRow(mamba2130m, 'int8'),
  prefillRow(transformer125m, 'f32'),
  prefillRow(transformer125m, 'bf16'),
  decodeRow(transformer125m, 'f32'),
  decodeRow(transformer125m, 'bf16'),
  decodeRow(transformer125m, 'int8'),
];

export const threadRows = [
  threadsRow('threads-prefill-512', 'a prompt of 512 tokens', prefillRate),
  threadsRow('threads-decode', 'decoding', decodeRate),
];
