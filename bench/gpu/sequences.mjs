// Runs of operations on sequences, forward or forward and backward: what rows of run.mjs and lengths.mjs time.
import { attention, scope, selectiveScan, ssd, Tape } from '../../dist/index.js';
import { constant } from './models.mjs';

/** @typedef {{ run: () => void, dispose: () => void }} Run */
/** `parts`: calls that share out the channels. @typedef {{ B: number, L: number, E: number, backward?: boolean, parts?: number }} ScanShape */
/** @typedef {import('../../dist/tensor/index.js').Tensor} Tensor */

/**
 * @param {Tensor[]} inputs
 * @param {Tensor} dy of each result
 * @param {() => Tensor[]} forward
 * @param {boolean} backward
 * @returns {Run}
 */
export const runOf = (inputs, dy, forward, backward) => ({
  run: () =>
    scope(() => {
      if (!backward) return void forward();
      const tape = new Tape(inputs);
      const results = tape.run(forward);
      for (const gradient of tape.backward(results, results.map(() => dy.retain()), inputs)) gradient?.dispose();
    }),
  dispose() {
    for (const made of [...inputs, dy]) made.dispose();
  },
});

/** @param {any} backend @param {ScanShape} shape @param {'f32' | 'f16'} dtype */
export function scanRun(backend, { B, L, E, backward = false, parts = 1 }, dtype) {
  const N = 16;
  const channels = E / parts;
  const make = (/** @type {number[]} */ shape, /** @type {number} */ value, of = dtype) => constant(backend, shape, value, of);
  const dy = make([B, L, channels], 0.1);
  const [Bt, Ct] = [make([B, L, N], 0.5), make([B, L, N], 0.4)];
  const each = Array.from({ length: parts }, () => {
    const [u, z, delta] = /** @type {[Tensor, Tensor, Tensor]} */ ([0.3, 0.2, -3].map((value) => make([B, L, channels], value)));
    const [A, D, deltaBias] = [make([channels, N], -2, 'f32'), make([channels], 1, 'f32'), make([channels], 0.01, 'f32')];
    return { u, z, delta, A, D, deltaBias };
  });
  const inputs = [...each.flatMap((one) => Object.values(one)), Bt, Ct];
  return runOf(inputs, dy, () => each.map(({ u, z, delta, A, D, deltaBias }) => selectiveScan(u, delta, A, Bt, Ct, { D, z, deltaBias, deltaSoftplus: true }).y), backward);
}

/** @param {any} backend @param {{ B: number, L: number, H: number, P: number, backward?: boolean | undefined }} shape @param {'f32' | 'f16'} dtype */
export function attentionRun(backend, { B, L, H, P, backward = false }, dtype) {
  const [q, k, v, dy] = /** @type {[Tensor, Tensor, Tensor, Tensor]} */ ([0.3, 0.2, 0.1, 0.4].map((value) => constant(backend, [B, L, H, P], value, dtype)));
  return runOf([q, k, v], dy, () => [attention(q, k, v)], backward);
}

/** @param {any} backend @param {{ B: number, L: number, H?: number, P?: number, N?: number, backward?: boolean, chunk?: number }} shape @param {'f32' | 'f16'} dtype */
export function ssdRun(backend, { B, L, H = 24, P = 64, N = 128, backward = false, chunk }, dtype) {
  const [x, dy] = /** @type {[Tensor, Tensor]} */ ([0.3, 0.1].map((value) => constant(backend, [B, L, H * P], value, dtype)));
  const delta = constant(backend, [B, L, H], -3, dtype);
  const [Bt, Ct] = /** @type {[Tensor, Tensor]} */ ([0.5, 0.4].map((value) => constant(backend, [B, L, N], value, dtype)));
  const [A, D, deltaBias] = /** @type {[Tensor, Tensor, Tensor]} */ ([-2, 1, 0.01].map((value) => constant(backend, [H], value)));
  return runOf([x, delta, A, Bt, Ct, D, deltaBias], dy, () => [ssd(x, delta, A, Bt, Ct, { D, deltaBias, deltaSoftplus: true, chunk }).y], backward);
}
