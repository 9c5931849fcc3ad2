// What the formats for weights cost and bring: evaluates a model in each of them on a text, decodes, and prints a table in
// Markdown.
//
//   node bench/quantization.mjs MODEL TEXT [--limit TOKENS] [--decode TOKENS] [--threads N]
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadModel, openBackend } from '../dist/index.js';
import { Decoder } from '../dist/generate/index.js';
import { portableWeightDTypes } from '../dist/models/packing.js';
import { loadTokenizer } from '../dist/tokenizer/index.js';
import { bitsPerByte, evaluateSequence, perplexity } from '../dist/train/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { limit: { type: 'string' }, decode: { type: 'string', default: '100' }, threads: { type: 'string' } },
});
const [folder, textFile] = positionals;
if (folder === undefined || textFile === undefined) {
  console.error('usage: node bench/quantization.mjs MODEL TEXT [--limit TOKENS] [--decode TOKENS] [--threads N]');
  process.exit(2);
}

const backend = await openBackend('cpu', values.threads === undefined ? {} : { threads: Number(values.threads) });
const text = readFileSync(textFile, 'utf8');

/**
 * Bytes of a model's parameters as they are saved.
 * @param {import('../dist/index.js').LanguageModel} model
 */
const sizeBytes = (model) =>
  model.parameters.reduce((sum, { tensor }) => sum + (tensor.dtype === 'f32' ? 4 * tensor.size : tensor.view.size), 0);

/**
 * Median milliseconds of a step.
 * @param {import('../dist/index.js').LanguageModel} model
 * @param {number} count
 */
async function decodeMs(model, count) {
  const state = model.newState(1);
  const decoder = new Decoder(model, state);
  const times = [];
  for (let i = 0; i < count; i++) {
    const started = performance.now();
    await decoder.step([i % model.config.vocabularySize]);
    times.push(performance.now() - started);
  }
  decoder.dispose();
  state.dispose();
  return times.sort((a, b) => a - b)[times.length >> 1] ?? NaN;
}

const rows = [];
for (const dtype of portableWeightDTypes) {
  const model = await loadModel(folder, backend, { dtype });
  const tokenizer = await loadTokenizer(folder, model.config.vocabularySize);
  const all = tokenizer.encode(text);
  const tokens = values.limit === undefined ? all : all.slice(0, Number(values.limit));
  const evaluation = await evaluateSequence(model, tokens);
  const bytes = tokens.length === all.length ? Buffer.byteLength(text) : Buffer.byteLength(tokenizer.decode(tokens));
  rows.push({ dtype, bytes: sizeBytes(model), evaluation, bits: bitsPerByte(evaluation, bytes), ms: await decodeMs(model, Number(values.decode)) });
  model.dispose();
}
await backend.close();

console.log('| weights | file | loss, nats a token | change | perplexity | bits a byte | decoding |');
console.log('|---|---|---|---|---|---|---|');
const base = rows[0]?.evaluation ?? { loss: NaN, tokens: 0 };
for (const { dtype, bytes, evaluation, bits, ms } of rows) {
  const change = evaluation.loss - base.loss;
  console.log(
    `| ${dtype} | ${(bytes / 1e6).toFixed(2)} MB | ${evaluation.loss.toFixed(4)} | ${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(4)} | ` +
      `${perplexity(evaluation).toFixed(3)} | ${bits.toFixed(4)} | ${(1000 / ms).toFixed(0)} tok/s |`,
  );
}
console.log(`\n${base.tokens.toLocaleString('en-US')} tokens of \`${textFile}\` by \`${folder}\`, ${backend.description}.`);
