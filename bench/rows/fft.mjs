// Fourier transforms, and convolutions by them.
import { fft, fftConv, scope, Tape } from 'elapid';
import { calls } from '../lib/calls.mjs';
import { values } from '../lib/tensors.mjs';

/** @typedef {import('../lib/row.mjs').Row} Row */
/** @typedef {import('elapid').Backend} Backend */

/**
 * A row about one call: `call` gets what `before` makes, which is not timed.
 * @template T
 * @param {object} options
 * @param {string} options.name
 * @param {string} options.what
 * @param {'GFLOP/s' | 'GB/s'} options.unit
 * @param {number} options.work of a call: operations or bytes
 * @param {'wasm'} [options.kernels]
 * @param {(threads: number) => import('../lib/row.mjs').Limit} options.limit
 * @param {boolean} [options.alone] on one thread
 * @param {(backend: Backend) => {call: (prepared: T) => unknown, before?: () => T, dispose: () => void}} options.make
 * @returns {Row}
 */
function row({ name, what, unit, work, kernels, limit, alone = false, make }) {
  return {
    name,
    what,
    unit,
    better: 'more',
    async prepare(context) {
      const threads = alone ? 1 : context.threads;
      return { ...(await calls({ threads, ...(kernels === undefined ? {} : { kernels }) }, work, make)), limit: limit(threads) };
    },
  };
}

/** Floats of a cache of the second level that a transform may take: its input, its output and what it works in. */
const cacheFloats = 2 ** 18;

/** @param {number} bits @param {'wasm'} [kernels] @returns {Row} */
function transformRow(bits, kernels) {
  const L = 2 ** bits;
  // A vector of features, or as many as fit the cache.
  const H = Math.max(kernels === 'wasm' ? 4 : 16, Math.floor(cacheFloats / 6 / L / 16) * 16);
  const inCache = bits <= 14;
  const bytes = 16 * L * H;
  return row({
    name: `op-fft-${kernels === undefined ? '' : `${kernels}-`}2^${bits}`,
    what: `complex transforms of ${L} numbers, ${H} side by side, one thread${kernels === undefined ? '' : `, ${kernels}`}; ${inCache ? '5·L·log₂L operations' : 'bytes read and written'}`,
    unit: inCache ? 'GFLOP/s' : 'GB/s',
    work: inCache ? 5 * L * bits * H : bytes,
    ...(kernels === undefined ? {} : { kernels }),
    alone: true,
    limit: () => ({
      probes: [inCache ? (kernels === 'wasm' ? 'muladd128:1' : 'fma:1') : `read:1:${bytes}`],
      value: (rate) => rate,
      basis: inCache
        ? kernels === 'wasm'
          ? 'products and sums of 128-bit vectors as separate instructions'
          : 'peak of f32 multiply-adds of a core'
        : 'reading as many bytes as it reads and writes, again and again',
    }),
    make(backend) {
      const [real, imaginary] = [values(backend, [1, L, H]), values(backend, [1, L, H])];
      return {
        call: () => fft(real, imaginary),
        dispose: () => [real, imaginary].forEach((tensor) => tensor.dispose()),
      };
    },
  });
}

/** @param {number} L @param {boolean} back @returns {Row} */
function convolutionRow(L, back) {
  const [B, H] = [2, 256];
  const points = L;
  const operations = 5 * points * Math.log2(points) * H;
  return row({
    name: `op-long-conv${back ? '-backward' : ''}-${L}`,
    what: `convolution [${B},${L},${H}] with ${L} taps, ${back ? 'all gradients' : 'forward'}; 5·L·log₂L operations a transform`,
    unit: 'GFLOP/s',
    work: back ? operations * (3 * B + 2) : operations * (2 * B + 1),
    limit: (threads) => ({ probes: [`fma:${threads}`], value: (rate) => rate, basis: 'peak of f32 multiply-adds' }),
    make(backend) {
      const [x, kernel, D, dy] = /** @type {import('elapid').Tensor[]} */ ([[B, L, H], [1, H, L], [1, H], [B, L, H]].map((shape) => values(backend, shape)));
      const all = /** @type {[import('elapid').Tensor, import('elapid').Tensor, import('elapid').Tensor]} */ ([x, kernel, D]);
      const dispose = () => [...all, dy].forEach((tensor) => tensor?.dispose());
      const forward = () => fftConv(all[0], all[1], { D: all[2] });
      if (!back) return { call: forward, dispose };
      return {
        before() {
          const tape = new Tape(all);
          return { tape, y: tape.run(() => scope(forward)) };
        },
        call(/** @type {{tape: Tape, y: import('elapid').Tensor}} */ { tape, y }) {
          tape.backward([y], [/** @type {import('elapid').Tensor} */ (dy)], all);
          y.dispose();
        },
        dispose,
      };
    },
  });
}

const bits = [8, 9, 10, 11, 12, 13, 14];

/** @type {readonly Row[]} */
export const fftRows = [
  ...[...bits, 16, 18].map((n) => transformRow(n)),
  ...bits.map((n) => transformRow(n, 'wasm')),
  ...[1024, 4096, 16384].flatMap((L) => [convolutionRow(L, false), convolutionRow(L, true)]),
];
