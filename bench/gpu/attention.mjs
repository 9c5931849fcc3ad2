// Attention in every sensible form on this machine's GPU: checked first against the form without matrix units in float32, then timed by the
// GPU's own clock. What src/ops/attention/webgpu chooses by.
//   node bench/gpu/attention.mjs [B] [L] [H] [P]
import * as elapid from '../../dist/index.js';
import { attention, attentionBackward } from '../../dist/ops/attention/kernels.js';
import { attentionBackwardBy } from '../../dist/ops/attention/webgpu/backward.js';
import { forwardByMatrices } from '../../dist/ops/attention/webgpu/forward-matrices.js';
import { forwardByRows } from '../../dist/ops/attention/webgpu/forward-rows.js';
import { keyGradientsByMatrices } from '../../dist/ops/attention/webgpu/key-gradients-matrices.js';
import { keyGradientsByRows } from '../../dist/ops/attention/webgpu/key-gradients-rows.js';
import { matrixGeometry } from '../../dist/ops/attention/webgpu/matrices.js';
import { queryGradientByMatrices } from '../../dist/ops/attention/webgpu/query-gradient-matrices.js';
import { queryGradientByRows } from '../../dist/ops/attention/webgpu/query-gradient-rows.js';
import { cast } from '../../dist/ops/view/view.js';
import { empty, launch, scope } from '../../dist/tensor/index.js';
import { withConstants } from '../../dist/wgsl/product/constants.js';
import { gpuTime, values } from './products.mjs';

const [batch = 8, length = 2048, heads = 12, size = 64] = process.argv.slice(2).map(Number);
const backend = /** @type {any} */ (await elapid.openBackend('webgpu'));
console.log(backend.description);

/** Tensors of a launch, the same numbers in either dtype. */
function tensors(B, L, dtype) {
  const shape = [B, L, heads, size];
  const [q, k, v, dy] = [1, 2, 3, 4].map((seed) =>
    scope(() => {
      const half = elapid.tensor(backend, values(B * L * heads * size, seed).map((value) => 1.7 * value), shape, 'f16');
      return dtype === 'f16' ? half : cast(half, 'f32');
    }),
  );
  const [y, dq, dk, dv] = [0, 1, 2, 3].map(() => empty(backend, shape, dtype));
  const [logSums, deltas] = [0, 1].map(() => empty(backend, [B, heads, L]));
  return { q, k, v, dy, y, dq, dk, dv, logSums, deltas };
}

const parametersOf = (B, L, window) => ({ batch: B, length: L, heads, kvHeads: heads, size, pagesPerRow: 0, window, scale: 1 / Math.sqrt(size), qPitch: size, kPitch: size, vPitch: size });
const places = { positions: null, begins: null, pages: null };

const forward = (form, t, parameters) => launch({ ...attention, webgpu: form }, { ...places, q: t.q, k: t.k, v: t.v, y: t.y, logSums: t.logSums }, parameters);
const backward = (form, t, parameters, wanted = ['dq', 'dk', 'dv']) => {
  const { q, k, v, y, logSums, dy, deltas } = t;
  const outputs = Object.fromEntries(['dq', 'dk', 'dv'].map((name) => [name, wanted.includes(name) ? t[name] : null]));
  launch({ ...attentionBackward, webgpu: form }, { ...places, q, k, v, y, logSums, dy, deltas, ...outputs }, { ...parameters, dyPitch: size });
};

const constants = (form) => (asked) => {
  // Of floats a launch knows the sign alone.
  const known = Object.fromEntries(Object.entries(asked.parameters).filter(([name]) => name !== 'scale'));
  return withConstants(form(asked), known);
};

/** Forms of the forward pass, of the queries' gradient, of the keys' and values'. */
const forms = (rows, subgroups) => ({
  forward: (asked) => forwardByMatrices(asked, matrixGeometry(size, rows, subgroups)),
  queries: (asked) => queryGradientByMatrices(asked, matrixGeometry(size, rows, subgroups)),
  keys: (asked) => keyGradientsByMatrices(asked, matrixGeometry(size, rows, subgroups)),
});

const names = ['y', 'dq', 'dk', 'dv'];
/** Results of a small launch with edges, with a window and without. */
async function results(dtype, forwardForm, backwardForm) {
  const found = [];
  for (const window of [0, 100]) {
    const t = tensors(2, 300, dtype);
    forward(forwardForm, t, parametersOf(2, 300, window));
    backward(backwardForm, t, parametersOf(2, 300, window));
    for (const name of names) found.push(await t[name].data());
    for (const one of Object.values(t)) one.dispose();
  }
  return found;
}

const error = (actual, expected) => {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const one = Math.abs(actual[i] - expected[i]);
    difference = one <= difference ? difference : one;
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
};

const right = await results('f32', forwardByRows, attentionBackwardBy(queryGradientByRows, keyGradientsByRows));
const t = tensors(batch, length, 'f16');
const parameters = parametersOf(batch, length, 0);
const rate = (milliseconds, products) => `${((products * batch * heads * length * (length + 1) * size) / milliseconds / 1e9).toFixed(0)} TFLOP/s`;

for (const [rows, subgroups] of [[32, 4], [32, 2], [16, 4], [16, 8]]) {
  const made = forms(rows, subgroups);
  for (const [label, wrap] of [['', (form) => form], [', constants', constants]]) {
    try {
      const found = await results('f16', wrap(made.forward), wrap(attentionBackwardBy(made.queries, made.keys)));
      const errors = found.map((one, i) => error(one, right[i]));
      const wrong = errors.every((one) => one < 2 ** -7) ? '' : 'WRONG ';
      const time = async (run) => (await gpuTime(backend, run)) / 1000;
      const first = await time(() => forward(wrap(made.forward), t, parameters));
      const back = wrap(attentionBackwardBy(made.queries, made.keys));
      const queries = await time(() => backward(back, t, parameters, ['dq']));
      const keys = await time(() => backward(back, t, parameters, ['dk', 'dv']));
      console.log(
        `${wrong}${rows} rows × ${subgroups} subgroups${label}`.padEnd(40),
        `forward ${first.toFixed(3)} ms (${rate(first, 2)}), dq ${queries.toFixed(3)} (${rate(queries, 3)}), dk and dv ${keys.toFixed(3)} (${rate(keys, 4)})`,
        `errors ${errors.map((one) => one.toExponential(1)).join(' ')}`,
      );
    } catch (failure) {
      console.log(`${rows} rows × ${subgroups} subgroups${label}: ${failure instanceof Error ? failure.message.slice(0, 500) : String(failure)}`);
    }
  }
}
await backend.close();
