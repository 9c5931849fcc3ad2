/**
 * Speculative decoding of a byte model on the CPU: trains a tokenizer, a byte model and a small model of subwords on one text, then writes the same texts
 * with and without drafts, in turn, in this process.
 *
 *   node bench/speculation.mjs TEXT [--out build/speculation] [--minutes 4.5] [--draft-minutes 1.2] [--d-model 512] [--layers 8] [--vocabulary 4096] [--train-on webgpu] [--json FILE]
 *
 * Training is resumed where it was interrupted, and left out where it is done. Sizes and minutes are those of a new run. A GPU trains on longer batches;
 * texts are always written on the CPU.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadModel, openBackend } from '../dist/index.js';
import { generateTokens } from '../dist/generate/index.js';
import { ByteTokenizer, loadTokenizer } from '../dist/tokenizer/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string', default: 'build/speculation' },
    minutes: { type: 'string', default: '4.5' },
    'draft-minutes': { type: 'string', default: '1.2' },
    'd-model': { type: 'string', default: '512' },
    layers: { type: 'string', default: '8' },
    vocabulary: { type: 'string', default: '4096' },
    'train-on': { type: 'string', default: 'cpu' },
    threads: { type: 'string', default: '2' },
    bytes: { type: 'string', default: '300' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
const [text] = positionals;
if (text === undefined) {
  process.stderr.write('node bench/speculation.mjs TEXT: expected a file of text\n');
  process.exit(2);
}
const cli = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const onGpu = values['train-on'] === 'webgpu';
const folder = (name) => join(values.out, name);

function elapid(...args) {
  process.stderr.write(`elapid ${args.join(' ')}\n`);
  const { status } = spawnSync(process.execPath, [cli, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** Trains a model, or goes on where that was interrupted. */
function train(name, minutes, ...sizes) {
  const common = onGpu ? ['--backend', 'webgpu', '--precision', 'f16'] : ['--threads', values.threads, '--precision', 'bf16'];
  if (existsSync(join(folder(name), 'training.safetensors'))) elapid('train', '--resume', folder(name), ...common);
  else elapid('train', text, '--out', folder(name), '--max-minutes', minutes, '--learning-rate', '2e-3', '--validation-share', '0.1', ...sizes, ...common);
}

if (!existsSync(join(folder('tokenizer'), 'tokenizer.json'))) elapid('tokenizer', 'train', text, '--vocabulary', values.vocabulary, '--out', folder('tokenizer'));
train('draft', values['draft-minutes'], '--tokenizer', folder('tokenizer'), '--d-model', '192', '--layers', '2', '--batch-size', onGpu ? '64' : '16', '--length', '128');
train('bytes', values.minutes, '--d-model', values['d-model'], '--layers', values.layers, '--batch-size', onGpu ? '32' : '8', '--length', onGpu ? '512' : '256');

const backend = await openBackend('cpu', { threads: Number(values.threads) });
const [target, model] = [await loadModel(folder('bytes'), backend), await loadModel(folder('draft'), backend)];
const tokenizer = await loadTokenizer(folder('draft'), model.config.vocabularySize);
const [bytes, maxTokens] = [new ByteTokenizer(), Number(values.bytes)];

/** The prompts are from the end of the text, which was held out. */
const content = readFileSync(text, 'utf8');
const prompts = [0.92, 0.94, 0.96, 0.98].map((share) => {
  const at = content.indexOf('\n\n', Math.floor(content.length * share)) + 2;
  return content.slice(Math.max(0, at - 300), content.indexOf('\n', at) + 1);
});

/** The bytes written and the seconds from the first on: reading the prompt is left out on both sides. */
async function write(prompt, options) {
  const ids = [];
  let started = 0;
  for await (const id of generateTokens(target, bytes.encode(prompt), { maxTokens, ...options })) {
    if (ids.push(id) === 1) started = performance.now();
  }
  return { ids, pace: (ids.length - 1) / ((performance.now() - started) / 1000) };
}

const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
const modes = [
  { name: 'greedy', options: { temperature: 0 }, drafts: [1, 2, 3, 4] },
  { name: 'greedy, lossy rank 3', options: { temperature: 0 }, lossyRank: 3, drafts: [3] },
  { name: 'sampled, temperature 0.8', options: { temperature: 0.8, seed: 1 }, drafts: [2, 3] },
];
const rows = [];
for (const { name, options, lossyRank, drafts } of modes) {
  for (const subwords of drafts) {
    const [plain, drafted, ratios] = [[], [], []];
    const sum = { rounds: 0, drafted: 0, accepted: 0 };
    let same = 0;
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const prompt of prompts) {
        const onRound = (one) => {
          sum.rounds++;
          sum.drafted += one.bytes.length;
          sum.accepted += one.accepted;
        };
        const [a, b] = [await write(prompt, options), await write(prompt, { ...options, draft: { model, tokenizer, subwords, lossyRank, onRound } })];
        plain.push(a.pace);
        drafted.push(b.pace);
        ratios.push(b.pace / a.pace);
        if (String(a.ids) === String(b.ids)) same++;
      }
    }
    const row = {
      ...{ mode: name, subwords, plain: median(plain), speculative: median(drafted), fastest: { plain: Math.max(...plain), speculative: Math.max(...drafted) } },
      ...{ ratio: median(ratios), acceptedPerRound: sum.accepted / sum.rounds, draftedPerRound: sum.drafted / sum.rounds, sameText: `${same} of ${ratios.length}` },
    };
    rows.push(row);
    process.stdout.write(
      `${name.padEnd(26)} ${subwords} subwords  plain ${row.plain.toFixed(0).padStart(5)}  drafted ${row.speculative.toFixed(0).padStart(5)} bytes/s  ` +
        `${row.ratio.toFixed(2)}x  (fastest ${(row.fastest.speculative / row.fastest.plain).toFixed(2)}x)  ${row.acceptedPerRound.toFixed(1)} of ${row.draftedPerRound.toFixed(1)} bytes taken a round  same text ${row.sameText}\n`,
    );
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ backend: backend.description, rows }, null, 1)}\n`);
for (const one of [target, model]) one.dispose();
await backend.close();
