import { describe, expect, test } from 'vitest';
import { ssd, ssdBackward } from '../../src/ops/ssd/kernels.js';
import { backwardByMatrices } from '../../src/ops/ssd/webgpu/backward-matrices.js';
import { forwardByMatrices } from '../../src/ops/ssd/webgpu/forward-matrices.js';
import { Random, tensor, type Backend, type Tensor } from '../../src/index.js';
import { empty, launch } from '../../src/tensor/index.js';
import { openEmulatingBackend } from '../support/emulated-matrices.js';
import { gpuIsHere, useBackend, useOpened } from '../support/backends.js';
import { isNight } from '../support/rare-cases.js';
import { halfTolerance, relativeError } from '../support/tolerances.js';

interface Case {
  readonly batch?: number;
  readonly length: number;
  readonly heads: number;
  readonly headSize: number;
  readonly groups?: number;
  readonly stateSize: number;
  readonly chunk: number;
  readonly starts?: readonly number[];
  readonly initial?: boolean;
  readonly skip?: 'head' | 'feature';
  readonly gated?: boolean;
  /** A is in [−rate, 0]. */
  readonly rate?: number;
}

const cases: readonly Case[] = [
  { length: 70, heads: 2, headSize: 16, stateSize: 16, chunk: 64 },
  { batch: 2, length: 200, heads: 2, headSize: 32, groups: 2, stateSize: 48, chunk: 128, initial: true, skip: 'head' },
  { length: 330, heads: 2, headSize: 80, stateSize: 80, chunk: 256, starts: [0, 37, 100, 192, 300], initial: true, skip: 'feature' },
  { length: 100, heads: 2, headSize: 16, stateSize: 32, chunk: 128, gated: true },
  { length: 256, heads: 1, headSize: 64, stateSize: 128, chunk: 256, rate: 30, skip: 'head' },
];

/** What halves hold exactly, so that both see the same numbers. */
const halves = (count: number, seed: number, [least, most]: readonly [number, number]): Float32Array => {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => Math.round(64 * (least + (most - least) * random.uniform())) / 64);
};

async function run(backend: Backend, one: Case, emulating: boolean) {
  const { batch = 1, length, heads, headSize, groups = 1, stateSize, chunk, starts, initial = false, skip, gated = false, rate = 2 } = one;
  const put = (shape: readonly number[], seed: number, range: readonly [number, number] = [-1.5, 1.5]) => tensor(backend, halves(shape.reduce((a, b) => a * b), seed, range), shape);
  const [features, weights, state] = [heads * headSize, groups * stateSize, [batch, heads, headSize, stateSize]];
  const given: Record<string, Tensor | null> = {
    ...{ x: put([batch, length, features], 1), delta: put([batch, length, heads], 2, [-4, 0]), A: put([heads], 3, [-rate, 0]) },
    ...{ B: put([batch, length, weights], 4), C: put([batch, length, weights], 5), deltaBias: put([heads], 6, [-0.5, 0.5]) },
    D: skip === undefined ? null : put([skip === 'head' ? heads : features], 7),
    z: gated ? put([batch, length, features], 8) : null,
    sequenceStarts: starts ? tensor(backend, Int32Array.from({ length: batch * length }, (_, i) => (starts.includes(i % length) ? 1 : 0)), [batch, length], 'i32') : null,
  };
  const initialState = initial ? put(state, 9) : null;
  const parameters = {
    ...{ batch, length, heads, headSize, groups, stateSize, chunk, blockHeads: 1, skipByFeature: Number(skip === 'feature'), softplus: 1, deltaLeast: 0.02, deltaLargest: 0.6 },
    ...{ xPitch: features, deltaPitch: heads, zPitch: gated ? features : 0, bPitch: weights, cPitch: weights },
  };
  const [y, finalState] = [empty(backend, [batch, length, features]), empty(backend, state)];
  const states = empty(backend, [batch, Math.ceil(length / chunk), heads, stateSize, headSize]);
  launch(emulating ? { ...ssd, webgpu: forwardByMatrices } : ssd, { ...given, initialState, y, finalState, states } as never, parameters as never);
  const made: Record<string, Tensor> = { y, finalState, states };
  // What has a gate goes back without matrix units.
  if (!gated) {
    const like = (name: string) => empty(backend, given[name]?.shape ?? []);
    const gradients: Record<string, Tensor> = { dx: like('x'), dDelta: like('delta'), dA: like('A'), dB: like('B'), dC: like('C'), dDeltaBias: like('deltaBias'), dInitialState: empty(backend, state) };
    if (skip !== undefined) gradients['dD'] = like('D');
    const [dy, dFinalState, headParts] = [put([batch, length, features], 10), put(state, 11), empty(backend, [batch, heads, headSize + 2])];
    const all = { ...given, states, dy, dFinalState, dz: null, dD: null, ...gradients, sequenceParts: null, headParts };
    launch(emulating ? { ...ssdBackward, webgpu: backwardByMatrices } : ssdBackward, all as never, { ...parameters, dyPitch: features } as never);
    Object.assign(made, gradients);
    for (const one of [dy, dFinalState, headParts]) one.dispose();
  }
  const values = Object.fromEntries(await Promise.all(Object.entries(made).map(async ([name, of]) => [name, await of.exactData()] as const)));
  for (const tensor of [...Object.values(given), ...Object.values(made), initialState]) tensor?.dispose();
  return values;
}

// A software GPU takes a minute or two to compile each.
describe.runIf(gpuIsHere && isNight)('ssd on matrix units, emulated, agrees with reference', () => {
  const gpu = useOpened(openEmulatingBackend);
  const reference = useBackend('reference');

  test.each(cases)('L $length P $headSize N $stateSize chunk $chunk', async (one) => {
    const [actual, expected] = await Promise.all([run(gpu(), one, true), run(reference(), one, false)]);
    for (const [name, values] of Object.entries(actual)) expect.soft(relativeError(values, expected[name] ?? []), name).toBeLessThan(halfTolerance);
  }, 600_000);
});
