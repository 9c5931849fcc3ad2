// The Mamba papers' comparison on the GPU: decoding of Mamba, Mamba-2 and a Transformer of the same size, over context, and at the largest batch
// of a memory budget, weights, keys and values in f16 (bench/headline.mjs is the CPU's half).
//   node bench/gpu/headline.mjs [--json FILE] [--model 'NAME OF THE GPU'] [--budget GB] [--most EXPONENT] [--only NAME,…] [--parts batch,context]
// The budget is for weights, and states or keys and values. The bound is that of the bytes that a step must move, at the rate of a copy in the same run.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openBackend } from '../../dist/index.js';
import { copyInto } from '../../dist/ops/view/view.js';
import { generated, headline, prompt } from '../lib/headline.mjs';
import { constant, median, timed } from './models.mjs';

const { values: options } = parseArgs({
  options: {
    ...{ json: { type: 'string' }, model: { type: 'string' }, only: { type: 'string' }, parts: { type: 'string' } },
    ...{ budget: { type: 'string', default: '16' }, most: { type: 'string', default: '20' }, memory: { type: 'string', default: '100' } },
  },
});
const open = () => openBackend('webgpu', { precision: 'f16' });
const backend = await open();
console.log(backend.description);

/** Bytes a second that a copy reads and writes. */
async function rate() {
  const [from, to] = [0, 1].map(() => constant(backend, [2 ** 27], 1));
  if (from === undefined || to === undefined) throw new Error('no memory to copy');
  const times = await timed(backend, () => { for (let i = 0; i < 100; i++) copyInto(from, to); }, 5);
  for (const made of [from, to]) made.dispose();
  return (100 * 2 * 2 ** 29) / median(times);
}
const copied = await rate();
const machine = { ...(options.model === undefined ? {} : { model: options.model }), gpu: backend.description, node: process.version, date: new Date().toISOString().slice(0, 10) };
const budget = 1e9 * Number(options.budget);
const last = await headline(
  {
    ...{ backend, rate: () => Promise.resolve(copied), dtype: 'f16', unit: 'GPU', budget, most: Number(options.most), memory: 1e9 * Number(options.memory) },
    ...{ rounds: 5, roundMs: 100, warmMs: 300, tokensOfPass: 2 ** 17, generatedSteps: generated },
  },
  {
    ...(options.only === undefined ? {} : { only: options.only }),
    ...(options.parts === undefined ? {} : { parts: options.parts }),
    reopen: open,
    save: (rows) => {
      if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, weights: 'f16', cache: 'f16', budgetBytes: budget, prompt, generated, gigabytesPerSecond: Math.round(copied / 1e9), rows }, null, 1)}\n`);
    },
  },
);
await last.close();
