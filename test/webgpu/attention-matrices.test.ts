import { describe, expect, test } from 'vitest';
import { attention, attentionBackward } from '../../src/ops/attention/kernels.js';
import { attentionBackwardBy } from '../../src/ops/attention/webgpu/backward.js';
import { forwardByMatrices } from '../../src/ops/attention/webgpu/forward-matrices.js';
import { keyGradientsByMatrices } from '../../src/ops/attention/webgpu/key-gradients-matrices.js';
import { queryGradientByMatrices } from '../../src/ops/attention/webgpu/query-gradient-matrices.js';
import { Random, tensor, type Backend, type Tensor } from '../../src/index.js';
import { empty, launch } from '../../src/tensor/index.js';
import { openEmulatingBackend } from '../support/emulated-matrices.js';
import { gpuIsHere, useBackend, useOpened } from '../support/backends.js';
import { isNight } from '../support/rare-cases.js';
import { halfTolerance, relativeError } from '../support/tolerances.js';

/** [batch, length, heads, heads of keys, size], and what else there is; pages are backwards. */
interface Case {
  readonly sizes: readonly [number, number, number, number, number];
  readonly window?: number;
  readonly starts?: readonly number[];
  readonly before?: readonly number[];
  /** Of queries and keys: scores that grow along a row by more than sums may stand. */
  readonly spread?: number;
  readonly scale?: number;
}

const cases: readonly Case[] = [
  { sizes: [1, 140, 1, 1, 16], starts: [0, 37, 100] },
  { sizes: [2, 70, 2, 2, 32], window: 40 },
  { sizes: [1, 40, 1, 1, 32], scale: -0.2 },
  { sizes: [1, 150, 2, 1, 64] },
  { sizes: [2, 40, 2, 1, 48], before: [90, 3], spread: 4 },
  { sizes: [1, 90, 1, 1, 128], spread: 4 },
];

/** What halves hold exactly, so that both see the same numbers. */
const halves = (count: number, seed: number, spread: number): Float32Array => {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => Math.round(64 * spread * (random.uniform() * 3.4 - 1.7)) / 64);
};

async function run(backend: Backend, { sizes, window = 0, starts, before, spread = 1, scale }: Case, emulating: boolean) {
  const [batch, length, heads, kvHeads, size] = sizes;
  const pagesPerRow = before ? Math.ceil((Math.max(...before) + length) / 64) : 0;
  const keyShape = before ? [batch * pagesPerRow + 1, 64, kvHeads, size] : [batch, length, kvHeads, size];
  const put = (shape: readonly number[], seed: number, by = 1) => tensor(backend, halves(shape.reduce((a, b) => a * b), seed, by), shape);
  const whole = (values: readonly number[], shape: readonly number[]) => tensor(backend, Int32Array.from(values), shape, 'i32');
  const own = [batch, length, heads, size];
  const at = { qPitch: size, kPitch: size, vPitch: size };
  const parameters = { batch, length, heads, kvHeads, size, pagesPerRow, window, scale: scale ?? 1 / Math.sqrt(size), halfKeys: false, ...at };
  const given = {
    ...{ q: put(own, 1, spread), k: put(keyShape, 2, spread), v: put(keyShape, 3) },
    positions: before ? whole(before, [batch]) : null,
    begins: starts ? whole(Array.from({ length: batch * length }, (_, i) => Math.max(...starts.filter((start) => start <= i % length))), [batch, length]) : null,
    pages: before ? whole(Array.from({ length: batch * pagesPerRow }, (_, i) => batch * pagesPerRow - i), [batch, pagesPerRow]) : null,
  };
  const [y, logSums] = [empty(backend, own), empty(backend, [batch, heads, length])];
  launch(emulating ? { ...attention, webgpu: (asked) => forwardByMatrices(asked) } : attention, { ...given, y, logSums }, parameters);
  const [dy, deltas, dq] = [put(own, 4), empty(backend, [batch, heads, length]), empty(backend, own)];
  const [dk, dv] = [0, 1].map(() => empty(backend, [batch, length, kvHeads, size])) as [Tensor, Tensor];
  const backward = { ...attentionBackward, webgpu: attentionBackwardBy(queryGradientByMatrices, keyGradientsByMatrices) };
  launch(emulating ? backward : attentionBackward, { ...given, y, logSums, dy, deltas, dq, dk, dv }, { ...parameters, dyPitch: size });
  const made = { y, logSums, dq, dk, dv };
  const values = Object.fromEntries(await Promise.all(Object.entries(made).map(async ([name, of]) => [name, await of.exactData()] as const)));
  for (const one of [...Object.values(given), ...Object.values(made), dy, deltas]) one?.dispose();
  return values;
}

// A software GPU takes a minute or two to compile each.
describe.runIf(gpuIsHere && isNight)('attention on matrix units, emulated, agrees with reference', () => {
  const gpu = useOpened(openEmulatingBackend);
  const reference = useBackend('reference');

  test.each(cases)('$sizes', async (one) => {
    const [actual, expected] = await Promise.all([run(gpu(), one, true), run(reference(), one, false)]);
    for (const [name, values] of Object.entries(actual)) expect(relativeError(values, expected[name] ?? []), name).toBeLessThan(halfTolerance);
  }, 600_000);
});
