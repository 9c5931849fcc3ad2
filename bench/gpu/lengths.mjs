// Time of a scan and of attention, forward and backward, over the length of one sequence: the GPU's half of the figure of training's cost.
//   node bench/gpu/lengths.mjs [--json FILE] [--most EXPONENT] [--model 'NAME OF THE GPU']
// A scan and attention of a layer of 130 million parameters' width: E 1536 N 16, and 12 heads of 64. Channels of a scan do not depend on each
// other, only gradients of B and C are sums over them: long scans are also timed as several calls that share out the channels, for states
// of more than a binding must be divided so, and a row has the fastest (`parts`: how many calls) beside the one call (`wholeMs`). A row that takes
// more than 10 s, or memory that there is not, ends an operation's rows; the last says so.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openBackend } from '../../dist/index.js';
import { median, timed } from './models.mjs';
import { attentionRun, scanRun } from './sequences.mjs';

const { values: options } = parseArgs({ options: { json: { type: 'string' }, most: { type: 'string', default: '19' }, model: { type: 'string' } } });
const longest = 10_000;
let backend = /** @type {any} */ (await openBackend('webgpu'));
const half = backend.features.f16 ? 'f16' : 'f32';
const machine = { ...(options.model === undefined ? {} : { model: options.model }), gpu: backend.description, node: process.version, date: new Date().toISOString().slice(0, 10) };
console.log(backend.description);

/** From this length on a scan is timed in parts, too. */
const long = 2 ** 15;
/** A scan's kept states in training are 8 bytes a position and channel. @param {number} L @param {number} parts */
const fits = (L, parts) => (8 * L * 1536) / parts <= backend.features.bindingBytes;
/** @typedef {(L: number, parts: number) => import('./sequences.mjs').Run} Make */
const operations = {
  scan: {
    what: `selective scan, B1 E1536 N16, ${half}`,
    make: /** @type {Make} */ ((L, parts) => scanRun(backend, { B: 1, L, E: 1536, backward: true, parts }, half)),
    parts: (/** @type {number} */ L) => (L < long ? [1] : [1, 4, 16].filter((parts) => fits(L, parts))),
  },
  attention: {
    what: `causal attention, B1 H12 P64, ${half}`,
    make: /** @type {Make} */ ((L) => attentionRun(backend, { B: 1, L, H: 12, P: 64, backward: true }, half)),
    parts: () => [1],
  },
};

/** Milliseconds of each of five rounds; of one, where a run takes seconds. @param {() => void} run */
async function rounds(run) {
  const first = 1000 * median(await timed(backend, run, 1));
  if (first > 1000) return [first];
  const repeat = Math.ceil(100 / first);
  const times = await timed(backend, () => { for (let i = 0; i < repeat; i++) run(); }, 5);
  return times.map((seconds) => (1000 * seconds) / repeat);
}

/** @type {object[]} */
const rows = [];
for (const [operation, { what, make, parts: partsOf }] of Object.entries(operations)) {
  for (let exponent = 9; exponent <= Number(options.most); exponent++) {
    const length = 2 ** exponent;
    /** @type {Record<string, unknown>} */
    const row = { device: 'gpu', operation, what, length };
    try {
      /** @type {{ parts: number, times: number[] }[]} */
      const tried = [];
      for (const parts of partsOf(length)) {
        const { run, dispose } = make(length, parts);
        tried.push({ parts, times: await rounds(run) });
        dispose();
      }
      const figure = (/** @type {number[]} */ times) => Number(median(times).toPrecision(4));
      const [best] = [...tried].sort((a, b) => median(a.times) - median(b.times));
      if (best === undefined) throw new Error('kept states exceed a binding');
      Object.assign(row, { forwardBackwardMs: figure(best.times), runs: best.times.length });
      if (best.parts > 1) {
        const whole = tried.find(({ parts }) => parts === 1);
        Object.assign(row, { parts: best.parts }, whole && { wholeMs: figure(whole.times) });
      }
    } catch (error) {
      row['skipped'] = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
      await backend.close().catch(() => undefined);
      backend = await openBackend('webgpu');
    }
    rows.push(row);
    console.log(JSON.stringify(row));
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, rows }, null, 1)}\n`);
    if ('skipped' in row) break;
    if (Number(row['forwardBackwardMs']) > longest) {
      row['last'] = 'a run takes more than 10 s';
      break;
    }
  }
}
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, rows }, null, 1)}\n`);
await backend.close();
