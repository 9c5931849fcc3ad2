// Whole models on the GPU: prefill, decoding, training. Rows: name, unit, ours.
import { LanguageModel, mamba2Family, mambaConfig, mambaFamily, scope, tensor } from '../../dist/index.js';
import { fill } from '../../dist/backend/memory/kernels.js';
import { packedParameters } from '../../dist/models/packing.js';
import { empty, launch } from '../../dist/tensor/index.js';
import { defaultTrainingOptions, Trainer } from '../../dist/train/index.js';

/** Families and configs by name. */
export const configurations = {
  '130m': () => ({ family: mambaFamily, config: mambaConfig({ vocabularySize: 50280, dModel: 768, layers: 24 }) }),
  '1.4b': () => ({ family: mambaFamily, config: mambaConfig({ vocabularySize: 50280, dModel: 2048, layers: 48 }) }),
  'mamba2-130m': () => ({ family: mamba2Family, config: mamba2Family.configOf({ size: '130m' }) }),
};

/** A size's family and config, of any family. @param {keyof typeof configurations} size @returns {{ family: import('elapid').ModelFamily<any>, config: any }} */
const modelOf = (size) => configurations[size]();

/** A tensor of one value. @param {import('elapid').Backend} backend @param {number[]} shape @param {number} value @param {any} dtype */
export function constant(backend, shape, value, dtype = 'f32') {
  const made = empty(backend, shape, dtype);
  launch(fill, { values: made }, { value, count: made.size });
  return made;
}

/** @param {number[]} values */
export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

/**
 * A model whose weights are all alike: its speed does not depend on them, and nothing is drawn or uploaded.
 * @param {import('elapid').Backend} backend
 * @param {keyof typeof configurations} size
 * @param {'f32' | 'f16' | 'int8' | 'int4' | 'bf16'} dtype
 */
export function constantModel(backend, size, dtype) {
  /** @type {any} */
  const source = (/** @type {string} */ _key, /** @type {{ shape: number[] }} */ { shape }) => constant(backend, shape, 0.01);
  const { family, config } = modelOf(size);
  return new LanguageModel(family, config, backend, dtype === 'f32' ? source : packedParameters(source, dtype));
}

/**
 * Tokens a second, of each round, of a prompt of `length` tokens.
 * @param {import('elapid').Backend} backend
 * @param {{ size?: keyof typeof configurations, batch?: number, length?: number, dtype?: any, rounds?: number }} options
 */
export async function prefill(backend, { size = '130m', batch = 1, length = 2048, dtype = 'f16', rounds = 7 } = {}) {
  const model = constantModel(backend, size, dtype);
  const ids = tensor(backend, Int32Array.from({ length: batch * length }, (_, i) => i % 50000), [batch, length], 'i32');
  const state = model.newState(batch);
  const prepared = model.prepare();
  const run = () => scope(() => model.forwardLast(ids, { state, prepared })).dispose();
  const times = await timed(backend, run, rounds);
  for (const made of [ids, state, model, prepared]) made.dispose();
  return times.map((seconds) => (batch * length) / seconds);
}

/**
 * Tokens a second of each round, all sequences together, of decoding without reading anything back.
 * @param {import('elapid').Backend} backend
 * @param {{ size?: keyof typeof configurations, batch?: number, dtype?: any, steps?: number, rounds?: number }} options
 */
export async function decode(backend, { size = '130m', batch = 1, dtype = 'f16', steps = 64, rounds = 5 } = {}) {
  const model = constantModel(backend, size, dtype);
  const ids = tensor(backend, new Int32Array(batch), [batch], 'i32');
  const state = model.newState(batch);
  const prepared = model.prepare();
  /** @type {any} */
  let logits;
  const program = backend.capture(() => {
    logits = model.step(ids, state, prepared);
  });
  const times = await timed(
    backend,
    () => {
      for (let i = 0; i < steps; i++) program.replay();
    },
    rounds,
  );
  const { launches } = program;
  program.dispose();
  for (const made of [ids, state, model, logits, prepared]) made.dispose();
  return { rates: times.map((seconds) => (batch * steps) / seconds), launches };
}

/**
 * Tokens a second of training steps, AdamW included.
 * @param {import('elapid').Backend} backend
 * @param {{ size?: keyof typeof configurations, batch?: number, length?: number, rounds?: number, profile?: (run: () => Promise<unknown>) => Promise<void> }} options
 */
export async function train(backend, { size = '130m', batch = 8, length = 2048, rounds = 5, profile = undefined } = {}) {
  const { family, config } = modelOf(size);
  const model = LanguageModel.initial(family, config, backend, 1);
  const tokens = Int32Array.from({ length: batch * length + 1 }, (_, i) => (i * 7919) % 50000);
  const row = (/** @type {number} */ shift) => tokens.slice(shift, shift + batch * length);
  const data = {
    source: /** @type {any} */ ({ next: () => Promise.resolve({ inputs: row(0), targets: row(1) }) }),
    fingerprint: 'constant',
    continuous: false,
    evaluate: () => Promise.reject(new Error('not evaluated')),
  };
  const trainer = new Trainer(model, data, { ...defaultTrainingOptions(1000), batchSize: batch, length });
  for (let i = 0; i < 4; i++) await trainer.trainStep();
  backend.resetStatistics();
  const times = [];
  let loss = 0;
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    ({ loss } = await trainer.trainStep());
    times.push(performance.now() - start);
  }
  const { peakBytes } = backend.statistics();
  await profile?.(() => trainer.trainStep());
  trainer.dispose();
  model.dispose();
  return { rates: times.map((ms) => (1000 * batch * length) / ms), peakGiB: peakBytes / 2 ** 30, loss };
}

/**
 * Seconds of `run` until the GPU is done, of each round. A GPU that was idle is slow for a second or so: it is kept busy first.
 * @param {import('elapid').Backend} backend
 * @param {() => void} run
 * @param {number} rounds
 */
export async function timed(backend, run, rounds) {
  for (const start = performance.now(); performance.now() - start < 1200; ) {
    run();
    await backend.synchronize();
  }
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    run();
    await backend.synchronize();
    times.push((performance.now() - start) / 1000);
  }
  return times;
}
