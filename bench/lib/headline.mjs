// Decoding of Mamba, Mamba-2 and a Transformer of the same size, over context and at the largest batch of a memory budget: what
// bench/headline.mjs (CPU) and bench/gpu/headline.mjs (GPU) share. Weights are all alike: speed does not depend on them.
import { LanguageModel, mamba2Family, mambaFamily, scope, State, tensor, transformerFamily } from '../../dist/index.js';
import { fill } from '../../dist/backend/memory/kernels.js';
import { weightBytes } from '../../dist/cli/measure-model.js';
import { packedParameters } from '../../dist/models/packing.js';
import { copyInto } from '../../dist/ops/view/view.js';
import { empty, launch } from '../../dist/tensor/index.js';
import { median } from './statistics.mjs';

/** @typedef {import('elapid').Backend} Backend */
/** @typedef {{ backend: Backend, rate: () => Promise<number>, dtype: 'bf16' | 'f16', unit: string, budget: number, most: number, memory: number, rounds: number, roundMs: number, warmMs: number, tokensOfPass: number, promptBatch?: number, generatedSteps: number }} Setting */

/** Keys and values, on both devices. */
const cache = /** @type {const} */ ({ cacheDType: 'f16' });
export const prompt = 2048;
export const generated = 128;

const families = [
  { name: 'mamba-130m', family: mambaFamily, options: { vocabularySize: 50280, size: '130m' } },
  { name: 'mamba2-130m', family: mamba2Family, options: { vocabularySize: 50288, size: '130m' } },
  { name: 'transformer-125m', family: transformerFamily, options: { vocabularySize: 50280, size: '125m', contextLength: 2048 } },
];

/** @param {Backend} backend @param {typeof families[number]} of @param {'bf16' | 'f16'} dtype */
function constantModel(backend, { family, options }, dtype) {
  /** @type {any} */
  const source = (/** @type {string} */ _key, /** @type {{ shape: number[] }} */ { shape }) => {
    const values = empty(backend, shape);
    launch(fill, { values }, { value: 0.01, count: values.size });
    return values;
  };
  const { configOf } = /** @type {any} */ (family);
  return new LanguageModel(/** @type {any} */ (family), configOf(options), backend, packedParameters(source, dtype));
}

/**
 * A state at a position that nothing has been read up to: keys and values are all one row, put there by a copy. The time of a step does not depend on them.
 * @param {LanguageModel} model @param {number} batch @param {number} position @param {number} room positions after it
 */
function placed(model, batch, position, room) {
  const state = model.newState(batch, cache);
  state.reserve(position + room);
  scope(() => {
    const { places, layers } = state;
    if (places === undefined) return;
    for (const memory of layers) {
      for (const part of [memory['keys'], memory['values']]) {
        if (part === undefined) continue;
        const [pages = 0, ...rest] = part.shape;
        const size = rest.reduce((a, b) => a * b, 1);
        const row = tensor(model.backend, Float32Array.from({ length: size }, (_, i) => Math.sin(i)), [size]);
        copyInto(row.aliased([pages, size], 0, 0), part.aliased([pages, size]));
      }
    }
    places.positions?.write(new Int32Array(batch).fill(position));
  });
  state.position = position;
  return state;
}

/** Bytes that a step moves at least: weights, fixed states read and written, keys and values read and one position's written. @param {LanguageModel} model @param {number} batch @param {number} position */
function bytesOfStep(model, batch, position) {
  const fixed = State.sizeBytes(model, 0, cache);
  const perPosition = (State.sizeBytes(model, 64, cache) - fixed) / 64;
  return weightBytes(model) + batch * (2 * fixed + (position + 1) * perPosition);
}

/** Seconds of `run`, until the device is done. @param {Backend} backend @param {() => void} run */
async function seconds(backend, run) {
  const start = performance.now();
  run();
  await backend.synchronize();
  return (performance.now() - start) / 1000;
}

/**
 * Seconds a step, after `position` positions. Each round begins there again.
 * @param {LanguageModel} model @param {Setting} setting @param {number} batch @param {number} position @param {number} [steps]
 */
async function stepSeconds(model, { backend, rounds, roundMs, warmMs }, batch, position, steps) {
  const most = steps ?? 256;
  const state = placed(model, batch, position, most + 1);
  const prepared = model.prepare();
  const ids = tensor(backend, new Int32Array(batch), [batch], 'i32');
  /** @type {import('elapid').Tensor | undefined} */
  let logits;
  const start = new Int32Array(batch).fill(position);
  const program = backend.capture(() => {
    logits = model.step(ids, state, prepared);
  });
  const run = (/** @type {number} */ count) => () => {
    state.places?.positions?.write(start);
    for (let i = 0; i < count; i++) program.replay();
  };
  try {
    await seconds(backend, run(1));
    let one = await seconds(backend, run(1));
    // A GPU that was idle is slow for a while.
    for (const begun = performance.now(); performance.now() - begun < warmMs; ) one = (await seconds(backend, run(Math.min(most, 16)))) / Math.min(most, 16);
    const count = steps ?? Math.max(1, Math.min(most, Math.round(roundMs / 1000 / one)));
    const times = [];
    for (let round = 0; round < rounds; round++) times.push((await seconds(backend, run(count))) / count);
    return median(times);
  } finally {
    program.dispose();
    for (const made of [state, prepared, ids, logits]) made?.dispose();
  }
}

/** Seconds that `batch` sequences take for the prompt, read in pieces. @param {LanguageModel} model @param {Setting} setting @param {number} batch */
async function promptSeconds(model, { backend, tokensOfPass }, batch) {
  const length = Math.min(prompt, 2 ** Math.floor(Math.log2(Math.max(1, tokensOfPass / batch))));
  const ids = tensor(backend, Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % 50000), [batch, length], 'i32');
  const prepared = model.prepare();
  const read = async (/** @type {number} */ positions) => {
    const state = model.newState(batch, cache);
    state.reserve(positions);
    const start = performance.now();
    for (let at = 0; at < positions; at += length) {
      const pass = { state, prepared };
      scope(() => (at + length < positions ? model.hidden(ids, pass) : model.forwardLast(ids, pass))).dispose();
      // One piece in flight: no more memory than one needs.
      await backend.synchronize();
    }
    state.dispose();
    return (performance.now() - start) / 1000;
  };
  await read(length);
  const taken = await read(prompt);
  for (const made of [ids, prepared]) made.dispose();
  return taken;
}

const rounded = (/** @type {number} */ value) => Number(value.toPrecision(4));
const reason = (/** @type {unknown} */ error) => (error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));

/**
 * Both measurements of all models.
 * @param {Setting} setting
 * @param {{ only?: string, parts?: string, save: (rows: object[], rates: number[]) => void, reopen?: () => Promise<Backend> }} options
 */
export async function headline(setting, { only, parts = 'batch,context', save, reopen }) {
  const { budget, dtype, most, memory } = setting;
  /** @type {object[]} */
  const rows = [];
  /** @type {number[]} */
  const rates = [];
  const rateNow = async () => {
    rates.push(await setting.rate());
    return median(rates);
  };
  const add = (/** @type {object} */ row) => {
    rows.push(row);
    console.log(JSON.stringify(row));
    save(rows, rates);
  };
  for (const of of families) {
    if (only !== undefined && !only.split(',').includes(of.name)) continue;
    let model = constantModel(setting.backend, of, dtype);
    const weights = weightBytes(model);
    const bound = async (/** @type {number} */ batch, /** @type {number} */ position) => batch / (bytesOfStep(model, batch, position) / (await rateNow()));
    if (parts.includes('batch')) {
      const sequence = State.sizeBytes(model, prompt + generated, cache);
      const batch = Math.floor((budget - weights) / sequence);
      const row = { part: 'batch', model: of.name, batch, weightBytes: weights, stateBytes: sequence };
      try {
        const ofPrompt = setting.promptBatch ?? batch;
        const [promptTime, step] = [(await promptSeconds(model, setting, ofPrompt)) * (batch / ofPrompt), await stepSeconds(model, { ...setting, rounds: Math.min(3, setting.rounds) }, batch, prompt + (generated - setting.generatedSteps) / 2, setting.generatedSteps)];
        const limit = await bound(batch, prompt + generated / 2);
        const decoding = batch / step;
        const figures = { promptSeconds: rounded(promptTime), stepMs: rounded(1000 * step), decodedPerSecond: rounded(decoding), bound: rounded(limit), share: rounded(decoding / limit) };
        add({ ...row, ...figures, withPromptPerSecond: rounded((batch * generated) / (promptTime + generated * step)) });
      } catch (error) {
        add({ ...row, skipped: reason(error) });
        if (reopen === undefined) throw error;
        setting = { ...setting, backend: await reopen() };
        model = constantModel(setting.backend, of, dtype);
      }
    }
    for (let exponent = 9; parts.includes('context') && exponent <= most; exponent++) {
      const context = 2 ** exponent;
      const stateBytes = State.sizeBytes(model, context, cache);
      const row = { part: 'context', model: of.name, context, stateBytes };
      if (weights + stateBytes > memory) {
        add({ ...row, skipped: `more than ${memory / 1e9} GB` });
        break;
      }
      try {
        const step = await stepSeconds(model, setting, 1, context);
        const limit = await bound(1, context);
        add({ ...row, msPerToken: rounded(1000 * step), tokensPerSecond: rounded(1 / step), bound: rounded(limit), share: rounded(1 / step / limit) });
      } catch (error) {
        add({ ...row, skipped: reason(error) });
        if (reopen === undefined) throw error;
        setting = { ...setting, backend: await reopen() };
        model = constantModel(setting.backend, of, dtype);
        break;
      }
    }
    model.dispose();
  }
  return setting.backend;
}
