// Useful tokens a second of training on documents of unequal lengths: packed into rows, and padded to the longest of their
// batch. Needs dist and build:
//
//   node bench/packing.mjs [--rounds 5] [--threads n]
//
// Lengths are log-normal, median 150 tokens, σ = 1 of the logarithm, kept within [16, 2048]: many short documents, few long ones.
// Both ways run forward and backward of the same model on these documents, in alternation; the figure is the median over rounds
// of (tokens of documents) / (time), in wall time and in time of this process's processors.
import { parseArgs } from 'node:util';
import { mambaConfig, LanguageModel, openBackend, Random, tensor, valueAndGradients, mambaFamily } from '../dist/index.js';
import { documentOf, ignoredTarget, PackedSampler } from '../dist/data/index.js';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, threads: { type: 'string' } } });
const [batchSize, length, perRound] = [8, 256, 128];
const random = new Random(7);
const lengths = Array.from({ length: perRound }, () => Math.round(Math.min(2048, Math.max(16, 150 * Math.exp(random.normal())))));
const documents = lengths.map((count) => Int32Array.from({ length: count }, () => random.integer(256)));
const useful = lengths.reduce((sum, count) => sum + count, 0);

const backend = await openBackend('cpu', values.threads === undefined ? {} : { threads: Number(values.threads) });
const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 128, layers: 4 }), backend, 1);
const parameters = model.parameters.map((parameter) => parameter.tensor);

async function train({ inputs, targets, starts }, shape, state) {
  const put = (ids) => tensor(backend, ids, shape, 'i32');
  const { value, gradients } = valueAndGradients(parameters, () =>
    model.loss(put(inputs), put(targets), { ...(starts ? { sequenceStarts: put(starts) } : {}), ...(state ? { state } : {}) }),
  );
  await value.item();
  for (const made of [value, ...gradients]) made?.dispose();
  return inputs.length;
}

const source = { count: documents.length, fingerprint: '', open: (i) => Promise.resolve(documentOf(documents[i])), close: () => Promise.resolve() };
const sampler = new PackedSampler(source, { batchSize, length, seed: 1 });
const state = model.newState(batchSize);

/** About as many tokens in rows of 256, the state carried from batch to batch and from round to round, as a trainer does. */
async function packed() {
  let positions = 0;
  while (positions < useful) positions += await train(await sampler.next(), [batchSize, length], state);
  return { positions, tokens: positions };
}

/** Eight documents a batch, each row as long as the longest. */
async function padded() {
  let positions = 0;
  for (let first = 0; first < documents.length; first += batchSize) {
    const rows = documents.slice(first, first + batchSize);
    const longest = Math.max(...rows.map((row) => row.length));
    const batch = { inputs: new Int32Array(batchSize * longest), targets: new Int32Array(batchSize * longest).fill(ignoredTarget) };
    rows.forEach((row, b) => {
      batch.inputs.set(row, b * longest);
      batch.targets.set(row.subarray(1), b * longest);
    });
    positions += await train(batch, [batchSize, longest]);
  }
  return { positions, tokens: useful };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const ways = { packed, padded };
const speeds = { packed: [], padded: [] };
const share = {};
for (let round = -1; round < Number(values.rounds); round++) {
  for (const [name, run] of Object.entries(ways)) {
    const [wall, processors] = [performance.now(), process.cpuUsage()];
    const { positions, tokens } = await run();
    share[name] = tokens / positions;
    const { user, system } = process.cpuUsage(processors);
    if (round >= 0) speeds[name].push([(1000 * tokens) / (performance.now() - wall), (1e6 * tokens) / (user + system)]);
  }
}
console.log(`${backend.description}, d_model 128, 4 layers, ${perRound} documents of ${useful} tokens, longest ${Math.max(...lengths)}`);
const speed = (name, which) => median(speeds[name].map((pair) => pair[which]));
for (const name of Object.keys(ways)) {
  const [wall, cpu] = [0, 1].map((which) => speed(name, which).toFixed(0));
  console.log(`${name}  ${(100 * share[name]).toFixed(1)} % of positions useful  ${wall} useful tok/s  ${cpu} a processor second`);
}
console.log(`packed / padded  ${(speed('packed', 0) / speed('padded', 0)).toFixed(2)} wall, ${(speed('packed', 1) / speed('padded', 1)).toFixed(2)} processor time`);
state.dispose();
model.dispose();
await backend.close();
