// The Mamba papers' comparison on the CPU: decoding of Mamba, Mamba-2 and a Transformer of the same size, over context, and at the largest batch
// of a memory budget, weights in bf16, keys and values in f16 (bench/gpu/headline.mjs is the GPU's half).
//   node bench/headline.mjs [--json FILE] [--threads N] [--budget GB] [--most EXPONENT] [--memory GB] [--only NAME,…] [--parts batch,context]
// The budget is for weights, and states or keys and values. The bound is that of the bytes that a step must move, at the rate at which a probe reads
// memory in the same run. The prompt is timed for one sequence and multiplied: its products are limited by arithmetic at one sequence already.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { generated, headline, prompt } from './lib/headline.mjs';
import { describeMachine } from './lib/machine.mjs';
import { openCpu } from './lib/ours.mjs';
import { buildProbe, probe } from './lib/probe.mjs';
import { median } from './lib/statistics.mjs';

const { values: options } = parseArgs({
  options: {
    ...{ json: { type: 'string' }, threads: { type: 'string', default: '2' }, only: { type: 'string' }, parts: { type: 'string' } },
    ...{ budget: { type: 'string', default: '4' }, most: { type: 'string', default: '20' }, memory: { type: 'string', default: '6' } },
  },
});
const threads = Number(options.threads);
const unavailable = await buildProbe();
if (unavailable !== undefined) throw new Error(`there is no bound: ${unavailable}`);
const machine = await describeMachine(threads);
const backend = await openCpu({ threads, bf16: true });
const budget = 1e9 * Number(options.budget);
const rate = async () => 1e9 * ((await probe([`read:${threads}:${2 ** 28}`]))[0] ?? NaN);
await headline(
  {
    ...{ backend, rate, dtype: 'bf16', unit: 'CPU', budget, most: Number(options.most), memory: 1e9 * Number(options.memory) },
    ...{ rounds: 5, roundMs: 300, warmMs: 0, tokensOfPass: 512, promptBatch: 1, generatedSteps: 4 },
  },
  {
    ...(options.only === undefined ? {} : { only: options.only }),
    ...(options.parts === undefined ? {} : { parts: options.parts }),
    save: (rows, rates) => {
      if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, threads, weights: 'bf16', cache: 'f16', budgetBytes: budget, prompt, generated, gigabytesPerSecond: Number((median(rates) / 1e9).toPrecision(4)), rows }, null, 1)}\n`);
    },
  },
);
await backend.close();
