// A layer of experts in training, beside a dense feed-forward layer of the size that a token uses.
import { add, experts, linear, multiply, relu, routeTokens, scope, sum, valueAndGradients } from 'elapid';
import { openCpu } from '../lib/ours.mjs';
import { milliseconds } from '../lib/row.mjs';
import { values } from '../lib/tensors.mjs';

/** The widths of MoE-Mamba 25M. */
const [tokens, D, F, E] = [2048, 512, 1536, 8];

/** @type {import('../lib/row.mjs').Row[]} */
export const expertRows = [
  {
    name: 'switch-train',
    what: `${E} experts, ${tokens} tokens, D${D} F${F}: router, experts, balance loss, all gradients; no token dropped`,
    unit: 'ms',
    better: 'less',
    async prepare({ threads }) {
      const backend = await openCpu({ threads });
      const scaled = (/** @type {number[]} */ shape, /** @type {number} */ fanIn) => values(backend, shape, (x) => x * fanIn ** -0.5);
      const [x, dy] = [values(backend, [tokens, D]), values(backend, [tokens, D])];
      const [gate, first, second] = [scaled([D, E], D), scaled([E, D, F], D), scaled([E, F, D], F)];
      const [up, down] = [scaled([F, D], D), scaled([D, F], F)];
      const loss = (/** @type {import('elapid').Tensor} */ y) => sum(multiply(y, dy));
      const switched = () =>
        valueAndGradients([x, gate, first, second], () => {
          const { gates, routing, auxiliary } = routeTokens(x, gate, { losses: { balance: 0.01, z: 0 } });
          const task = loss(experts(x, gates, routing, first, second));
          return auxiliary === null ? task : add(task, auxiliary.balance);
        });
      const dense = () => valueAndGradients([x, up, down], () => loss(linear(relu(linear(x, up)), down)));
      const time = (/** @type {() => unknown} */ body) =>
        milliseconds(async () => {
          scope(() => void body());
          await backend.synchronize();
        });
      return {
        ours: () => time(switched),
        peer: { name: 'dense', source: 'self', run: () => time(dense) },
        async close() {
          for (const made of [x, dy, gate, first, second, up, down]) made.dispose();
          await backend.close();
        },
      };
    },
    runs: 15,
  },
];
