// Decoding in every format for weights, against the speed of memory: a model of mamba-130m's shape with random weights.
//
//   node bench/decode.mjs [--threads N] [--batch N] [--rounds N] [--formats f32,bf16,int8,int4]
//
// Formats take turns, with the read of a large buffer before each, so that what else the machine does meets all alike; medians.
import { parseArgs } from 'node:util';
import { LanguageModel, mambaConfig, mambaFamily, openBackend, scope, sum, tensor } from '../dist/index.js';
import { Decoder } from '../dist/generate/index.js';
import { packedParameters, portableWeightDTypes } from '../dist/models/packing.js';
import { initialParameters } from '../dist/nn/index.js';

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '2' },
    batch: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '15' },
    formats: { type: 'string', default: portableWeightDTypes.join() },
  },
});
const threads = Number(values.threads);
const batch = Number(values.batch);
const rounds = Number(values.rounds);
const backend = await openBackend('cpu', { threads });
const config = mambaConfig({ vocabularySize: 50280, dModel: 768, layers: 24 });

/** @param {number[]} numbers */
const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;

/** Milliseconds of some calls, each. @param {() => Promise<unknown>} body @param {number} calls */
async function time(body, calls) {
  const started = performance.now();
  for (let i = 0; i < calls; i++) await body();
  return (performance.now() - started) / calls;
}

// Memory: the sum of 256 MB.
const large = tensor(backend, new Float32Array(2 ** 26), [2 ** 26]);
const reading = backend.capture(() => scope(() => void sum(large)));
const readOnce = async () => {
  reading.replay();
  await backend.synchronize();
};

// Drawn once: the formats are made from the same weights.
const source = initialParameters(backend, 0);
const formats = portableWeightDTypes.filter((dtype) => values.formats.split(',').includes(dtype));
const runs = formats.map((dtype) => {
  const model = new LanguageModel(mambaFamily, config, backend, packedParameters(source, dtype));
  const state = model.newState(batch);
  // What a step reads: all weights once, and the state, which it writes as well; a row of the embedding is nothing.
  const weights = model.parameters.reduce((all, { tensor: t }) => all + (t.dtype === 'f32' ? 4 * t.size : t.view.size), 0);
  const states = 2 * 4 * batch * config.layers * config.dInner * config.dState;
  return { dtype, bytes: weights + states, decoder: new Decoder(model, state), ms: /** @type {number[]} */ ([]) };
});

const memory = [];
const ids = new Int32Array(batch).fill(11);
for (let round = 0; round < rounds; round++) {
  for (const { decoder, ms } of runs) {
    memory.push((4 * 2 ** 26) / (await time(readOnce, 2)) / 1e6);
    await decoder.step(ids);
    ms.push(await time(() => decoder.step(ids), 5));
  }
}

const speed = median(memory);
console.log(`${backend.description}, batch ${batch}; memory reads ${speed.toFixed(1)} GB/s`);
console.log('| weights | a step reads | decoding | share of memory’s speed | launches |');
console.log('|---|---|---|---|---|');
for (const { dtype, bytes, decoder, ms } of runs) {
  const step = median(ms);
  const share = bytes / step / 1e6 / speed;
  console.log(`| ${dtype} | ${(bytes / 1e6).toFixed(0)} MB | ${((1000 * batch) / step).toFixed(0)} tok/s | ${(100 * share).toFixed(0)} % | ${decoder.launches} |`);
}
await backend.close();
