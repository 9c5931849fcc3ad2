// Attention in every sensible form on this machine's GPU: checked first against the form without matrix units in float32, then timed by the
// GPU's own clock. What src/ops/attention/webgpu chooses by.
//   node bench/gpu/attention.mjs [B] [L] [H] [P] [regular expression of forms]
import * as elapid from '../../dist/index.js';
import { attention, attentionBackward } from '../../dist/ops/attention/kernels.js';
import { attentionBackwardBy } from '../../dist/ops/attention/webgpu/backward.js';
import { forwardByMatrices } from '../../dist/ops/attention/webgpu/forward-matrices.js';
import { forwardByRows } from '../../dist/ops/attention/webgpu/forward-rows.js';
import { keyGradientsByMatrices } from '../../dist/ops/attention/webgpu/key-gradients-matrices.js';
import { keyGradientsByRows } from '../../dist/ops/attention/webgpu/key-gradients-rows.js';
import { matrixGeometry, partnersGeometry } from '../../dist/ops/attention/webgpu/matrices.js';
import { queryGradientByMatrices } from '../../dist/ops/attention/webgpu/query-gradient-matrices.js';
import { queryGradientByRows } from '../../dist/ops/attention/webgpu/query-gradient-rows.js';
import { cast } from '../../dist/ops/view/view.js';
import { empty, launch, scope } from '../../dist/tensor/index.js';
import { withConstants } from '../../dist/wgsl/product/constants.js';
import { median } from './models.mjs';
import { gpuTime, values } from './products.mjs';

const [batch = 8, length = 2048, heads = 12, size = 64] = process.argv.slice(2, 6).map(Number);
const filter = new RegExp(process.argv[6] ?? '');
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

/** Launches of kernels whose forms these are. A kernel is made once: what is made anew is planned anew. */
function launchesOf(forwardForm, backwardForm) {
  const [first, back] = [{ ...attention, webgpu: forwardForm }, { ...attentionBackward, webgpu: backwardForm }];
  return {
    forward: ({ q, k, v, y, logSums }, parameters) => launch(first, { ...places, q, k, v, y, logSums }, parameters),
    backward({ q, k, v, y, logSums, dy, deltas, ...gradients }, parameters, wanted = ['dq', 'dk', 'dv']) {
      const outputs = Object.fromEntries(['dq', 'dk', 'dv'].map((name) => [name, wanted.includes(name) ? gradients[name] : null]));
      launch(back, { ...places, q, k, v, y, logSums, dy, deltas, ...outputs }, { ...parameters, dyPitch: size });
    },
  };
}

const constants = (form) => (asked) => {
  // Of floats a launch knows the sign alone.
  const known = Object.fromEntries(Object.entries(asked.parameters).filter(([name]) => name !== 'scale'));
  return withConstants(form(asked), known);
};

/** Launches of forms of the forward pass, and of the backward pass. */
function launchesOfForms({ first = {}, subgroups, constant }) {
  const geometry = subgroups && partnersGeometry(size, subgroups);
  const wrap = constant ? constants : (made) => made;
  return launchesOf(
    wrap((asked) => forwardByMatrices(asked, matrixGeometry(size, first))),
    wrap(attentionBackwardBy((asked) => queryGradientByMatrices(asked, geometry), (asked) => keyGradientsByMatrices(asked, geometry))),
  );
}

const names = ['y', 'dq', 'dk', 'dv'];
/** Results of a small launch with edges, with a window and without. */
async function results(dtype, { forward, backward }) {
  const found = [];
  for (const window of [0, 100]) {
    const t = tensors(2, 300, dtype);
    forward(t, parametersOf(2, 300, window));
    backward(t, parametersOf(2, 300, window));
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

const right = await results('f32', launchesOf(forwardByRows, attentionBackwardBy(queryGradientByRows, keyGradientsByRows)));
const t = tensors(batch, length, 'f16');
const parameters = parametersOf(batch, length, 0);
const rate = (milliseconds, products) => `${((products * batch * heads * length * (length + 1) * size) / milliseconds / 1e9).toFixed(0)} TFLOP/s`;

const vector = 16;
const fits = ({ rows, width }, pairs = 1) => vector * (rows * (width / 4 + 1) + pairs * 32 * (size / 8 + 1)) + 512 <= backend.features.workgroupBytes;
const forms = [
  ...[32, 16].flatMap((rows) => [2, 4, 8].flatMap((subgroups) => [32, 16].map((width) => ({ rows, subgroups, width }))))
    .filter(({ rows, subgroups, width }) => fits({ rows: rows * subgroups, width }))
    .map((first) => ({ label: `${first.rows} rows × ${first.subgroups} subgroups, strips of ${first.width}`, form: { first }, parts: ['forward'] })),
  ...[2, 4, 6, 8].filter((subgroups) => fits({ rows: 16 * subgroups, width: 32 }))
    .map((subgroups) => ({ label: `${subgroups / 2} × 2 subgroups`, form: { subgroups }, parts: ['dq', 'dk and dv'] })),
]
  .flatMap(({ label, form, parts }) => [['', false], [', constants', true]].map(([suffix, constant]) => ({ label: `${label}${suffix}`, form: { ...form, constant }, parts })))
  .filter(({ label }) => filter.test(label));

// All are checked, and with that compiled, before one is timed: a GPU that waits for a compiler lowers its clock.
const sound = [];
await Promise.all(forms.map(async ({ form, label, parts: wanted }) => {
  try {
    const launches = launchesOfForms(form);
    const all = {
      forward: { products: 2, run: () => launches.forward(t, parameters) },
      dq: { products: 3, run: () => launches.backward(t, parameters, ['dq']) },
      'dk and dv': { products: 4, run: () => launches.backward(t, parameters, ['dk', 'dv']) },
    };
    const parts = Object.fromEntries(wanted.map((name) => [name, all[name]]));
    for (const { run } of Object.values(parts)) run();
    const found = await results('f16', launches);
    sound.push({ label, parts, times: {}, errors: found.map((one, i) => error(one, right[i])) });
  } catch (failure) {
    console.log(`${label}: ${failure instanceof Error ? failure.message.slice(0, 500) : String(failure)}`);
  }
}));
await backend.synchronize();

// Round after round, so that a clock that changes meets all alike.
const rounds = 3;
for (let round = 0; round < rounds; round++) {
  for (const { parts, times } of sound) {
    for (const [part, { run }] of Object.entries(parts)) {
      (times[part] ??= []).push((await gpuTime(backend, run, { rounds: 1, warmMs: round === 0 && sound[0].times === times ? 1500 : 20 })) / 1000);
    }
  }
}
for (const { label, parts, times, errors } of sound) {
  const wrong = errors.every((one) => one < 2 ** -7) ? '' : 'WRONG ';
  const figures = Object.entries(parts).map(([part, { products }]) => `${part} ${median(times[part]).toFixed(3)} ms (${rate(median(times[part]), products)})`);
  console.log(`${wrong}${label}`.padEnd(50), figures.join(', '), `errors at most ${Math.max(...errors).toExponential(1)}`);
}
await backend.close();
