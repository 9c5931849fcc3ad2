// The operations of mamba-130m and of a Transformer of its size by themselves, at the models' shapes.
import {
  adamwStep,
  attention,
  causalConv1d,
  causalConv1dStep,
  embedding,
  linear,
  linearCrossEntropy,
  rmsNorm,
  scope,
  selectiveScanStep,
  Tape,
  tensor,
  valueAndGradients,
} from 'elapid';
import { calls } from '../lib/calls.mjs';
import { config } from '../lib/model.mjs';
import { ids, values } from '../lib/tensors.mjs';
import { scanInputs } from './single.mjs';

/** @typedef {import('elapid').Backend} Backend */
/** @typedef {import('elapid').Tensor} Tensor */

const { dModel: D, dInner: E, dState: N, dConv: K, dtRank: R, vocabularySize: V, layers } = config;
const L = 512;
const float = 4;

/**
 * Something to be timed: `before` makes what one call needs and is not timed; `dispose` frees everything.
 * @template T
 * @typedef {{call: (prepared: T) => unknown, before?: () => T, dispose: () => void}} Timed
 */

/**
 * @template T
 * @typedef {object} Operation
 * @property {string} name
 * @property {string} what
 * @property {'GFLOP/s' | 'Gexp/s' | 'GB/s'} unit
 * @property {number} work of a call: operations, exponentials, or bytes read and written
 * @property {number} [footprint] bytes touched before the first are touched again, where that is not `work`
 * @property {(backend: Backend) => Timed<T>} make
 */

/** @type {Record<string, (threads: number, bytes: number) => {probe: string, basis: string}>} */
const limits = {
  'GFLOP/s': (threads) => ({ probe: `fma:${threads}`, basis: 'peak of f32 multiply-adds' }),
  'Gexp/s': (threads) => ({ probe: `exp:${threads}`, basis: 'B·L·E·N exponentials alone, from and to the first-level cache' }),
  'GB/s': (threads, bytes) => ({
    probe: `read:${threads}:${bytes}`,
    basis: `reading as many bytes as it reads and writes, ${(bytes / 1e6).toFixed(1)} MB, again and again`,
  }),
};

/**
 * @template T
 * @param {Operation<T>} operation
 * @returns {import('../lib/row.mjs').Row}
 */
function operationRow({ name, what, unit, work, footprint = work, make }) {
  return {
    name: `op-${name}`,
    what,
    unit,
    better: 'more',
    async prepare({ threads }) {
      const { probe, basis } = /** @type {NonNullable<typeof limits[string]>} */ (limits[unit])(threads, footprint);
      return { ...(await calls({ threads }, work, make)), limit: { probes: [probe], value: (rate) => rate, basis } };
    },
  };
}

const disposeAll = (/** @type {readonly Tensor[]} */ tensors) => () => tensors.forEach((tensor) => tensor.dispose());

/**
 * The backward pass alone: the forward pass is recorded before the clock starts.
 * @param {Tensor[]} by
 * @param {() => Tensor} forward
 * @param {Tensor} cotangent
 * @param {() => void} dispose
 * @returns {Timed<{tape: Tape, y: Tensor}>}
 */
const backward = (by, forward, cotangent, dispose) => ({
  before() {
    const tape = new Tape(by);
    return { tape, y: tape.run(() => scope(forward)) };
  },
  call({ tape, y }) {
    tape.backward([y], [cotangent], by);
    y.dispose();
  },
  dispose,
});

/**
 * Launches recorded once for each of several sets of tensors, so that a set is out of the caches when its turn comes.
 * @param {Backend} backend
 * @param {Tensor[][]} sets
 * @param {(...tensors: any[]) => unknown} step
 * @returns {Timed<undefined>}
 */
function replayed(backend, sets, step) {
  const program = backend.capture(() => {
    for (const set of sets) scope(() => void step(...set));
  });
  return {
    call: () => program.replay(),
    dispose() {
      program.dispose();
      disposeAll(sets.flat())();
    },
  };
}

const projections = /** @type {const} */ ([
  ['in', D, 2 * E],
  ['x', E, R + 2 * N],
  ['dt', R, E],
  ['out', E, D],
  ['head', D, V],
]);

const products = projections.map(([name, inputs, outputs]) =>
  operationRow({
    name: `linear-${name}`,
    what: `linear [${L},${inputs}]→${outputs}`,
    unit: 'GFLOP/s',
    work: 2 * L * inputs * outputs,
    make(backend) {
      const [x, w] = [values(backend, [L, inputs]), values(backend, [outputs, inputs])];
      return { call: () => linear(x, w), dispose: disposeAll([x, w]) };
    },
  }),
);

const inBackward = operationRow({
  name: 'linear-in-backward',
  what: `linear [${L},${D}]→${2 * E}, gradients of both factors`,
  unit: 'GFLOP/s',
  work: 4 * L * D * 2 * E,
  make(backend) {
    const [x, w, dy] = [values(backend, [L, D]), values(backend, [2 * E, D]), values(backend, [L, 2 * E])];
    return backward([x, w], () => linear(x, w), dy, disposeAll([x, w, dy]));
  },
});

/** Enough copies of a weight to be read from memory, as in a whole model. */
const coldBytes = 192e6;

const vectorProducts = projections.map(([name, inputs, outputs]) => {
  const copies = Math.ceil(coldBytes / (inputs * outputs * float));
  return operationRow({
    name: `decode-linear-${name}`,
    what: `linear [1,${inputs}]→${outputs}, weights from memory`,
    unit: 'GB/s',
    work: copies * inputs * outputs * float,
    make(backend) {
      const x = values(backend, [1, inputs]);
      const weights = Array.from({ length: copies }, () => [values(backend, [outputs, inputs], () => 1)]);
      const { call, dispose } = replayed(backend, weights, (w) => linear(x, w));
      return { call, dispose: () => (dispose(), x.dispose()) };
    },
  });
});

const convolution = (/** @type {Backend} */ backend) => {
  const tensors = { x: values(backend, [1, L, E]), weight: values(backend, [E, K]), bias: values(backend, [E]) };
  const { x, weight, bias } = tensors;
  const forward = () => causalConv1d(x, weight, { bias, activation: 'silu' }).y;
  return { ...tensors, forward, dispose: disposeAll(Object.values(tensors)) };
};

const norm = (/** @type {Backend} */ backend) => {
  const tensors = { x: values(backend, [L, D]), residual: values(backend, [L, D]), weight: values(backend, [D]) };
  const { x, residual, weight } = tensors;
  return { ...tensors, forward: () => rmsNorm(x, weight, { residual }).y, dispose: disposeAll(Object.values(tensors)) };
};

/** Attention of the Transformer of mamba-130m's size: H heads of P numbers. */
const [H, P] = [12, 64];
const pairs = (H * L * (L + 1)) / 2;

const heads = (/** @type {Backend} */ backend) => {
  const [q, k, v] = /** @type {[Tensor, Tensor, Tensor]} */ ([0, 1, 2].map(() => values(backend, [1, L, H, P])));
  return { inputs: [q, k, v], forward: () => attention(q, k, v), dispose: disposeAll([q, k, v]) };
};

const pageLength = 64;
const before = 1000;

/** Keys, values, pages and how many positions there are, for one more position. @param {Backend} backend */
function cached(backend) {
  const count = Math.ceil((before + 1) / pageLength);
  const pool = () => values(backend, [count, pageLength, H, P]);
  const pages = tensor(backend, Int32Array.from({ length: count }, (_, i) => i), [1, count], 'i32');
  return [pool(), pool(), pages, tensor(backend, Int32Array.of(before), [1], 'i32')];
}

const trained = 2 ** 24;

export const operationRows = [
  ...products,
  inBackward,
  operationRow({
    name: 'conv',
    what: `causal convolution [1,${L},${E}], ${K} taps, SiLU`,
    unit: 'GB/s',
    work: 2 * L * E * float,
    make(backend) {
      const { forward, dispose } = convolution(backend);
      return { call: forward, dispose };
    },
  }),
  operationRow({
    name: 'conv-backward',
    what: `causal convolution [1,${L},${E}], all gradients`,
    unit: 'GB/s',
    work: 3 * L * E * float,
    make(backend) {
      const { x, weight, bias, forward, dispose } = convolution(backend);
      const dy = values(backend, [1, L, E]);
      return backward([x, weight, bias], forward, dy, () => (dispose(), dy.dispose()));
    },
  }),
  operationRow({
    name: 'scan',
    what: `selective scan, B1 L${L} E${E} N${N}`,
    unit: 'Gexp/s',
    work: L * E * N,
    make(backend) {
      const { forward, dispose } = scanInputs(backend, { batch: 1, length: L, channels: E, states: N });
      return { call: forward, dispose };
    },
  }),
  operationRow({
    name: 'scan-backward',
    what: `selective scan, B1 L${L} E${E} N${N}, all gradients; states recomputed`,
    unit: 'Gexp/s',
    work: L * E * N,
    make(backend) {
      const { inputs, forward, dispose } = scanInputs(backend, { batch: 1, length: L, channels: E, states: N });
      const dy = values(backend, [1, L, E]);
      return backward(Object.values(inputs), () => forward().y, dy, () => (dispose(), dy.dispose()));
    },
  }),
  operationRow({
    name: 'attention',
    what: `causal attention, B1 L${L} H${H} P${P}`,
    unit: 'GFLOP/s',
    work: 4 * pairs * P,
    make(backend) {
      const { forward, dispose } = heads(backend);
      return { call: forward, dispose };
    },
  }),
  operationRow({
    name: 'attention-backward',
    what: `causal attention, B1 L${L} H${H} P${P}, all gradients: five products, as weights are not kept`,
    unit: 'GFLOP/s',
    work: 10 * pairs * P,
    make(backend) {
      const { inputs, forward, dispose } = heads(backend);
      const dy = values(backend, [1, L, H, P]);
      return backward(inputs, forward, dy, () => (dispose(), dy.dispose()));
    },
  }),
  operationRow({
    name: 'norm',
    what: `RMS norm with the residual sum [${L},${D}]`,
    unit: 'GB/s',
    work: 4 * L * D * float,
    make(backend) {
      const { forward, dispose } = norm(backend);
      return { call: forward, dispose };
    },
  }),
  operationRow({
    name: 'norm-backward',
    what: `RMS norm with the residual sum [${L},${D}], all gradients`,
    unit: 'GB/s',
    work: 3 * L * D * float,
    make(backend) {
      const { x, residual, weight, forward, dispose } = norm(backend);
      const dy = values(backend, [L, D]);
      return backward([x, residual, weight], forward, dy, () => (dispose(), dy.dispose()));
    },
  }),
  operationRow({
    name: 'cross-entropy',
    what: `loss of [256,${D}] through ${V} logits, and its gradients`,
    unit: 'GFLOP/s',
    work: 6 * 256 * D * V,
    make(backend) {
      const [hidden, weight, targets] = [values(backend, [256, D]), values(backend, [V, D]), ids(backend, [256], V)];
      return {
        call: () => valueAndGradients([hidden, weight], () => linearCrossEntropy(hidden, weight, targets)),
        dispose: disposeAll([hidden, weight, targets]),
      };
    },
  }),
  operationRow({
    name: 'embedding',
    what: `${L} rows of [${V},${D}]`,
    unit: 'GB/s',
    work: 2 * L * D * float,
    make(backend) {
      const [table, tokens] = [values(backend, [V, D], () => 1), ids(backend, [L], V)];
      return { call: () => embedding(tokens, table), dispose: disposeAll([table, tokens]) };
    },
  }),
  operationRow({
    name: 'adamw',
    what: `AdamW of ${trained} parameters`,
    unit: 'GB/s',
    work: 7 * trained * float,
    footprint: 4 * trained * float,
    make(backend) {
      const make = (/** @type {number} */ x) => values(backend, [trained], () => x);
      const tensors = { parameters: make(1), gradients: make(0.01), firstMoments: make(0), secondMoments: make(0) };
      const settings = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 1 };
      return {
        call: () => adamwStep({ ...tensors, decayCount: trained }, settings),
        dispose: disposeAll(Object.values(tensors)),
      };
    },
  }),
  ...vectorProducts,
  operationRow({
    name: 'decode-conv',
    what: `causal convolution, a position of each of ${layers} layers`,
    unit: 'GB/s',
    work: layers * (2 * (K - 1) + K + 3) * E * float,
    make(backend) {
      const x = values(backend, [1, E]);
      const sets = Array.from({ length: layers }, () => [values(backend, [1, K - 1, E]), values(backend, [E, K]), values(backend, [E])]);
      const step = (/** @type {Tensor} */ state, /** @type {Tensor} */ weight, /** @type {Tensor} */ bias) =>
        causalConv1dStep(state, x, weight, { bias, activation: 'silu' });
      const { call, dispose } = replayed(backend, sets, step);
      return { call, dispose: () => (dispose(), x.dispose()) };
    },
  }),
  operationRow({
    name: 'decode-scan',
    what: `selective scan, a position of each of ${layers} layers`,
    unit: 'Gexp/s',
    work: layers * E * N,
    make(backend) {
      const [x, b] = [values(backend, [1, E]), values(backend, [1, N])];
      const sets = Array.from({ length: layers }, () => [values(backend, [1, E, N]), values(backend, [E, N], (a) => -Math.abs(a))]);
      const step = (/** @type {Tensor} */ state, /** @type {Tensor} */ A) =>
        selectiveScanStep(state, x, x, A, b, b, { z: x, deltaSoftplus: true });
      const { call, dispose } = replayed(backend, sets, step);
      return { call, dispose: () => (dispose(), x.dispose(), b.dispose()) };
    },
  }),
  operationRow({
    name: 'decode-attention',
    what: `attention, a position after ${before} others in each of ${layers / 2} layers`,
    unit: 'GB/s',
    work: (layers / 2) * 2 * (before + 1) * H * P * float,
    make(backend) {
      const q = values(backend, [1, 1, H, P]);
      const step = (/** @type {Tensor} */ keys, /** @type {Tensor} */ values, /** @type {Tensor} */ pages, /** @type {Tensor} */ positions) =>
        attention(q, q, q, { cache: { keys, values, pages, positions } });
      const { call, dispose } = replayed(backend, Array.from({ length: layers / 2 }, () => cached(backend)), step);
      return { call, dispose: () => (dispose(), q.dispose()) };
    },
  }),
];
