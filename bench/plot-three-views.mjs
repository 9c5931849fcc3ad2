// One small S4D system as an ODE, a recurrence and a convolution: prints their outputs, and how LSSL's rule nears its ODE, and draws them.
//   node bench/plot-three-views.mjs --out FILE.svg
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { scaleLinear } from 'd3-scale';
import { line } from 'd3-shape';
import { Lssl, lsslConfig, nn, openBackend, S4Block, s4Config, scope, tensor, zeros } from 'elapid';

/** @typedef {number[][]} Matrix */

const { values: options } = parseArgs({ options: { out: { type: 'string' } } });
if (options.out === undefined) throw new Error('node bench/plot-three-views.mjs --out FILE.svg');

const step = 0.2;
// Held from one position to the next.
const u = [1, 1, 0, 0, 0, -1, 0.5, 0.5, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 0, 0];
const length = u.length;
// Two pairs of conjugates: eigenvalues of 'diag-lin', and what comes out of them.
const rates = [[-0.5, 0], [-0.5, -Math.PI]];
const C = [[0.6, 0], [0.35, 0.45]];

/** @param {Matrix} x @param {Matrix} y */
const product = (x, y) => x.map((row) => (y[0] ?? []).map((_, j) => row.reduce((sum, value, k) => sum + value * Number(y[k]?.[j]), 0)));

/** e^M, by halving, Taylor's series and squaring. @param {Matrix} M */
function exponential(M) {
  const halvings = 12;
  const small = M.map((row) => row.map((value) => value / 2 ** halvings));
  let term = M.map((_, i) => M.map((__, j) => Number(i === j)));
  let result = term;
  for (let k = 1; k < 16; k++) {
    term = product(term, small).map((row) => row.map((value) => value / k));
    result = result.map((row, i) => row.map((value, j) => value + Number(term[i]?.[j])));
  }
  for (let i = 0; i < halvings; i++) result = product(result, result);
  return result;
}

/** The state of x′ = A·x + B·u a time later, u held meanwhile. @param {Matrix} A @param {number[]} B @param {number[]} x @param {number} input @param {number} time */
function flow(A, B, x, input, time) {
  const system = [...A.map((row, i) => [...row, Number(B[i]) * input]), new Array(x.length + 1).fill(0)];
  return product(exponential(system.map((row) => row.map((value) => value * time))), [...x, 1].map((value) => [value])).slice(0, x.length).map(([value]) => Number(value));
}

const backend = await openBackend('reference');
/** @param {Iterable<number>} values @param {readonly number[]} shape */
const on = (values, shape) => tensor(backend, [...values], shape);
/** @param {() => import('elapid').Tensor} body */
async function read(body) {
  const made = scope(body);
  const values = [...(await made.exactData())];
  made.dispose();
  return values;
}

// 1. The ODE, in real numbers: a pair of conjugates is a rotation of the plane.
const A = rates.flatMap(([re = 0, im = 0], n) => [[re, -im], [im, re]].map((row) => rates.flatMap((_, m) => (m === n ? row : [0, 0]))));
const B = rates.flatMap(() => [1, 0]);
/** @param {number[]} x */
const output = (x) => 2 * C.reduce((sum, [re = 0, im = 0], n) => sum + re * Number(x[2 * n]) - im * Number(x[2 * n + 1]), 0);
const fine = 20;
/** @type {[number, number][]} */
const curve = [[0, 0]];
/** @type {number[]} */
const continuous = [];
let state = B.map(() => 0);
for (const [t, input] of u.entries()) {
  for (let i = 1; i <= fine; i++) curve.push([t + i / fine, output(flow(A, B, state, input, (step * i) / fine))]);
  state = flow(A, B, state, input, step);
  continuous.push(output(state));
}

// 2. and 3. The package's block without its nonlinearity.
/** @type {Record<string, number[]>} */
const parameters = {
  'layer.D': [0],
  'layer.kernel.C': C.flat(),
  'layer.kernel.inv_dt': [Math.log(step)],
  'layer.kernel.A_real': rates.map(([re = 0]) => Math.log(-re)),
  'layer.kernel.A_imag': rates.map(([, im = 0]) => -im),
};
const store = new nn.ParameterStore((key, { shape, initialiser }) => on(parameters[key] ?? initialiser(shape, /** @type {never} */ (undefined)), shape));
const block = new S4Block(store, s4Config({ dModel: 1, dState: 4, init: 'diag-lin', activation: 'none', output: 'none' }));
const constants = block.constants();
const ssm = zeros(backend, [1, 1, 2, 2]);
/** @type {number[]} */
const recurrent = [];
for (const input of u) {
  const step = () => {
    const x = on([input], [1, 1]);
    return block.step({ value: () => x, project: (linear) => linear.forward(x) }, { memory: { ssm }, constants });
  };
  recurrent.push(...(await read(step)));
}
const convolutional = await read(() => block.forward(on(u, [1, length, 1])));
const kernel = await read(() => block.space.kernel(length));

/** @param {number[]} x @param {number[]} y */
const apart = (x, y) => Math.max(...x.map((value, t) => Math.abs(value - Number(y[t]))));
console.log('position  input  ODE         recurrence  convolution');
for (const t of [0, 1, 2, 5, 9, 13, 19]) console.log([t, u[t], ...[continuous, recurrent, convolutional].map((all) => Number(all[t]).toFixed(8))].join('  '));
console.log(`largest difference from the ODE: recurrence ${apart(continuous, recurrent).toExponential(1)}, convolution ${apart(continuous, convolutional).toExponential(1)}`);

// LSSL: the state after three units of time of input 1, by steps of a rate.
const size = 4;
const lssl = new Lssl(new nn.ParameterStore(nn.initialParameters(backend, 1)), lsslConfig({ dModel: 1, dState: size, dtMin: 1, dtMax: 1 }));
const dense = await read(() => lssl.transition.system().A);
const inputs = await read(() => lssl.transition.system().B);
const exact = flow(inputs.map((_, i) => dense.slice(i * size, (i + 1) * size)), inputs, inputs.map(() => 0), 1, 3);
for (const rate of [1 / 8, 1 / 16, 1 / 32, 1 / 64]) {
  const after = zeros(backend, [1, 1, size]);
  await read(() => lssl.forward(on(new Array(3 / rate).fill(1), [1, 3 / rate, 1]), { rate, after: { ssm: after } }));
  console.log(`LSSL, Δ = ${rate}: its state is ${apart(exact, [...(await after.exactData())]).toExponential(2)} from the ODE's`);
}

// The picture: three panels with the same outputs.
const [width, panel, left, right] = [760, 210, 64, 736];
const place = scaleLinear([0, length], [left, right]);
const values = [...curve.map(([, y]) => y), ...u, ...kernel];
const height = scaleLinear([Math.min(...values), Math.max(...values)], [panel - 34, 34]).nice();
const [ink, pale, blue, orange, green] = ['#333', '#bbb', '#0072B2', '#D55E00', '#009E73'];
/** @param {number} x @param {number} y @param {string} content @param {string} [attributes] */
const text = (x, y, content, attributes = '') => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${content}</text>`;
/** @param {readonly [number, number][]} points @param {string} stroke @param {number} [thick] */
const path = (points, stroke, thick = 2) =>
  `<path d="${line((/** @type {[number, number]} */ [x]) => place(x), (/** @type {[number, number]} */ [, y]) => height(y))(/** @type {[number, number][]} */ (points)) ?? ''}" fill="none" stroke="${stroke}" stroke-width="${thick}"/>`;
/** Outputs stand at the end of the time in which their input is held. @param {number[]} all @param {string} fill */
const dots = (all, fill) => all.map((y, t) => `<circle cx="${place(t + 1).toFixed(1)}" cy="${height(y).toFixed(1)}" r="3.5" fill="${fill}"/>`).join('');
/** @param {number[]} all @param {string} stroke @param {number} shift */
const stems = (all, stroke, shift) =>
  all.map((y, t) => `<line x1="${place(t + shift).toFixed(1)}" x2="${place(t + shift).toFixed(1)}" y1="${height(0).toFixed(1)}" y2="${height(y).toFixed(1)}" stroke="${stroke}" stroke-width="3"/>`).join('');
/** @type {[number, number][]} */
const stairs = u.flatMap((value, t) => [[t, value], [t + 1, value]]);
const panels = [
  ['continuous: x′ = A·x + B·u, y = C·x, solved by matrix exponentials; the input in grey', path(stairs, pale) + path(curve, blue) + dots(continuous, blue)],
  ['recurrent: x ← Ā·x + B̄·u, y = C·x, one position after another', path(recurrent.map((y, t) => [t + 1, y]), pale, 1) + dots(recurrent, orange)],
  ['convolutional: y = K ∗ u by FFT; the kernel K as bars', stems(kernel, pale, 1) + dots(convolutional, green)],
];
const drawn = panels.map(([title = '', content = ''], i) => {
  const ticks = height.ticks(5).map((tick) => `<line x1="${left}" x2="${right}" y1="${height(tick).toFixed(1)}" y2="${height(tick).toFixed(1)}" stroke="#eee"/>` + text(left - 8, height(tick) + 4, String(tick), 'text-anchor="end"'));
  return `<g transform="translate(0 ${i * panel})">${text(left, 20, title, 'font-weight="600"')}${ticks.join('')}${content}</g>`;
});
const below = panels.length * panel;
const positions = place.ticks(10).map((tick) => text(place(tick), below - 8, String(tick), 'text-anchor="middle"'));
writeFileSync(
  options.out,
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${below + 24}" font-family="system-ui, sans-serif" font-size="12" fill="${ink}">`,
    '<rect width="100%" height="100%" fill="white"/>',
    ...drawn,
    ...positions,
    text((left + right) / 2, below + 12, 'time, in steps of Δ', 'text-anchor="middle"'),
    '</svg>\n',
  ].join('\n'),
);
await backend.close();
