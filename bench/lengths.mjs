// Time of a scan and of attention, forward and backward, over the length of one sequence: the CPU's half of the figure of training's cost
// (bench/gpu/lengths.mjs is the GPU's).
//   node bench/lengths.mjs [--json FILE] [--threads N] [--most EXPONENT]
// A scan and attention of a layer of 130 million parameters' width: E 1536 N 16, and 12 heads of 64. Both take turns at each length.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { attention, scope, Tape } from 'elapid';
import { describeMachine } from './lib/machine.mjs';
import { openCpu } from './lib/ours.mjs';
import { milliseconds } from './lib/row.mjs';
import { median } from './lib/statistics.mjs';
import { values } from './lib/tensors.mjs';
import { scanInputs } from './rows/single.mjs';

/** @typedef {import('elapid').Backend} Backend */
/** @typedef {import('elapid').Tensor} Tensor */

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, threads: { type: 'string', default: '2' }, most: { type: 'string', default: '15' } },
});
const threads = Number(options.threads);
const backend = await openCpu({ threads });
const machine = await describeMachine(threads);

/** @param {Tensor[]} inputs @param {() => Tensor} forward @param {Tensor} dy */
const forwardBackward = (inputs, forward, dy) => () =>
  milliseconds(async () => {
    scope(() => {
      const tape = new Tape(inputs);
      const y = tape.run(forward);
      for (const gradient of tape.backward([y], [dy], inputs)) gradient?.dispose();
    });
    await backend.synchronize();
  });

const operations = /** @type {const} */ ([
  {
    operation: 'scan',
    what: 'selective scan, B1 E1536 N16, f32',
    make(/** @type {number} */ L) {
      const { inputs, forward, dispose } = scanInputs(backend, { batch: 1, length: L, channels: 1536, states: 16 });
      const dy = values(backend, [1, L, 1536]);
      const run = forwardBackward(Object.values(inputs), () => forward().y, dy);
      return { run, dispose: () => (dispose(), dy.dispose()) };
    },
  },
  {
    operation: 'attention',
    what: 'causal attention, B1 H12 P64, f32',
    make(/** @type {number} */ L) {
      const [q, k, v, dy] = /** @type {[Tensor, Tensor, Tensor, Tensor]} */ ([0, 1, 2, 3].map(() => values(backend, [1, L, 12, 64])));
      const run = forwardBackward([q, k, v], () => attention(q, k, v), dy);
      return { run, dispose: () => [q, k, v, dy].forEach((tensor) => tensor.dispose()) };
    },
  },
]);

const rows = [];
for (let exponent = 9; exponent <= Number(options.most); exponent++) {
  const length = 2 ** exponent;
  const runs = operations.map(({ make }) => make(length));
  const first = [];
  for (const { run } of runs) first.push(await run());
  const rounds = Math.max(...first) > 5000 ? 1 : 5;
  const times = operations.map(() => /** @type {number[]} */ ([]));
  for (let round = 0; round < rounds; round++) for (const [i, { run }] of runs.entries()) times[i]?.push(await run());
  for (const [i, { operation, what }] of operations.entries()) {
    runs[i]?.dispose();
    const row = { device: 'cpu', operation, what, length, forwardBackwardMs: Number(median(times[i] ?? []).toPrecision(4)), runs: rounds };
    rows.push(row);
    console.log(JSON.stringify(row));
  }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, threads, rows }, null, 1)}\n`);
}
await backend.close();
