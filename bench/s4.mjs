// Training of an S4D or S4 block, forward and backward, as a convolution and as a recurrence, over the length of its sequences.
//   node bench/s4.mjs [--threads N] [--most EXPONENT] [--batch B]
// Width 128, 32 pairs of states a feature. Both forms take turns at each length; a line has the medians and their ratio.
import { parseArgs } from 'node:util';
import { nn, S4Block, s4Config, scope, Tape, tensor, zeros, Random } from 'elapid';
import { openCpu } from './lib/ours.mjs';
import { milliseconds } from './lib/row.mjs';
import { median } from './lib/statistics.mjs';
import { values } from './lib/tensors.mjs';

const { values: options } = parseArgs({
  options: { threads: { type: 'string', default: '2' }, most: { type: 'string', default: '13' }, batch: { type: 'string', default: '8' } },
});
const backend = await openCpu({ threads: Number(options.threads) });
const batch = Number(options.batch);
const width = 128;

for (const init of /** @type {const} */ (['diag-lin', 'legs'])) {
  const store = new nn.ParameterStore((key, { shape, initialiser }) => tensor(backend, initialiser(shape, new Random(1)), shape));
  const block = new S4Block(store, s4Config({ dModel: width, dState: 64, init }));
  for (let exponent = 8; exponent <= Number(options.most); exponent++) {
    const length = 2 ** exponent;
    const [x, dy] = [values(backend, [batch, length, width]), values(backend, [batch, length, width])];
    // A pass that is asked for its final state is a recurrence.
    const after = { ssm: zeros(backend, [batch, width, 32, 2]) };
    const inputs = [x, ...store.all.map((one) => one.tensor)];
    const run = (/** @type {import('elapid').S4Pass} */ pass) =>
      milliseconds(async () => {
        scope(() => {
          const tape = new Tape(inputs);
          const y = tape.run(() => block.forward(x, pass));
          for (const gradient of tape.backward([y], [dy], inputs)) gradient?.dispose();
        });
        await backend.synchronize();
      });
    /** @type {[convolution: number[], recurrence: number[]]} */
    const times = [[], []];
    for (let round = 0; round < 4; round++) {
      const pair = [await run({}), await run({ after })];
      // The first round warms up.
      if (round > 0) pair.forEach((time, i) => times[i]?.push(time));
    }
    const [convolution, recurrence] = times.map(median);
    console.log(JSON.stringify({ init, batch, length, convolutionMs: convolution?.toPrecision(4), recurrenceMs: recurrence?.toPrecision(4), ratio: ((recurrence ?? NaN) / (convolution ?? NaN)).toPrecision(3) }));
    for (const one of [x, dy, after.ssm]) one.dispose();
  }
  for (const one of store.all) one.tensor.dispose();
}
await backend.close();
