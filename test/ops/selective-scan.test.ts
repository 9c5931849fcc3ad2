import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { selectiveScan } from '../../src/ops/selective-scan/selective-scan.js';
import { selectiveScanStep } from '../../src/ops/selective-scan/selective-scan-step.js';
import { scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { openBackend } from '../../src/backend/open.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { addUp, cutScan, flip, flipScan, joinPositions, randomScan, runScan, type ScanData, type ScanResults } from './scan-support.js';

const backends = [
  { name: 'reference', kind: 'reference', options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
] as const;
const reference = useBackend('reference');

/** The data less one of its parts. */
function without(data: ScanData, part: keyof ScanData): ScanData {
  return Object.fromEntries(Object.entries(data).filter(([name]) => name !== part));
}

function expectSame(actual: Record<string, ArrayLike<number>>, expected: Record<string, ArrayLike<number>>, limit: number): void {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, values] of Object.entries(expected)) expectClose(actual[name] ?? [], values, limit, name);
}

describe.each(backends)('selectiveScan on $name', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  test.each([[[1]], [[64]], [[63, 128]], [[10, 74, 75]]])('cut at %j with the state carried: as in one piece', async (cuts) => {
    const L = 150;
    const data = randomScan(1, L, 20, 8, [30, 100]);
    const whole = await runScan(backend(), data);
    const bounds = [0, ...cuts, L];
    const pieces: ScanResults[] = [];
    // Forward through the pieces for the carried states, then backward with the carried gradients.
    const states = [data['initialState']?.values ?? []];
    const pieceOf = (i: number, dFinal: ArrayLike<number>): ScanData => ({
      ...cutScan(data, bounds[i] ?? 0, bounds[i + 1] ?? L),
      initialState: { shape: [1, 20, 8], values: states[i] ?? [] },
      dFinalState: { shape: [1, 20, 8], values: dFinal },
    });
    const last = data['dFinalState']?.values ?? [];
    for (let i = 0; i + 1 < bounds.length; i++) states.push((await runScan(backend(), pieceOf(i, last)))['finalState'] ?? []);
    let carried: ArrayLike<number> = last;
    for (let i = bounds.length - 2; i >= 0; i--) {
      const piece = await runScan(backend(), pieceOf(i, carried));
      carried = piece['dinitialState'] ?? [];
      pieces.unshift(piece);
    }
    const shared = ['dA', 'dD', 'ddeltaBias'];
    const joined = {
      ...joinPositions(pieces),
      ...Object.fromEntries(shared.map((name) => [name, addUp(pieces, name)])),
      finalState: states.at(-1) ?? [],
      dinitialState: carried,
    };
    expectSame(joined, whole, limit);
  });

  test.each([false, true])('documents packed in a row: as each by itself (reverse: %s)', async (reverse) => {
    const bounds = [0, 1, 65, 100, 190];
    const data = without(randomScan(1, 190, 20, 8, bounds), 'initialState');
    const whole = await runScan(backend(), data, { reverse });
    const zeros = { shape: [1, 20, 8], values: new Float32Array(160) };
    const documents = reverse ? 0 : bounds.length - 2;
    const pieces: ScanResults[] = [];
    for (let i = 0; i + 1 < bounds.length; i++) {
      const piece = without(cutScan(data, bounds[i] ?? 0, bounds[i + 1] ?? 0), 'sequenceStarts');
      pieces.push(await runScan(backend(), i === documents ? piece : { ...piece, dFinalState: zeros }, { reverse }));
    }
    const shared = Object.fromEntries(['dA', 'dD', 'ddeltaBias'].map((name) => [name, addUp(pieces, name)]));
    expectSame({ ...joinPositions(pieces), ...shared, finalState: pieces[documents]?.['finalState'] ?? [] }, whole, limit);
  });

  test.each(['euler', 'zoh'] as const)('step by step: as the sequence (%s)', async (discretization) => {
    const [B, L, E, N] = [2, 20, 37, 20];
    const data = randomScan(B, L, E, N);
    const whole = await runScan(backend(), data, { discretization });
    const fixed = (name: string): Tensor => tensor(backend(), data[name]?.values ?? [], data[name]?.shape ?? []);
    const { state, outputs } = scope(() => {
      const kept = { state: fixed('initialState'), A: fixed('A'), D: fixed('D'), deltaBias: fixed('deltaBias') };
      const steps = Array.from({ length: L }, (_, t) => {
        const at = cutScan(data, t, t + 1);
        const row = (name: string): Tensor => tensor(backend(), at[name]?.values ?? [], [B, at[name]?.shape[2] ?? 0]);
        const more = { D: kept.D, z: row('z'), deltaBias: kept.deltaBias, deltaSoftplus: true, discretization };
        return selectiveScanStep(kept.state, row('u'), row('delta'), kept.A, row('B'), row('C'), more);
      });
      return { state: kept.state, outputs: steps };
    });
    const y = new Float64Array(B * L * E);
    for (const [t, output] of outputs.entries()) {
      const values = await output.exactData();
      for (let b = 0; b < B; b++) y.set(values.subarray(b * E, (b + 1) * E), (b * L + t) * E);
      output.dispose();
    }
    expectClose(y, whole['y'] ?? [], limit, 'y');
    expectClose(await state.exactData(), whole['finalState'] ?? [], limit, 'state');
    state.dispose();
  });

  test('reverse: as the flipped sequence, flipped', async () => {
    const [B, L, E, N] = [2, 130, 20, 8];
    const data = randomScan(B, L, E, N);
    const flipped = await runScan(backend(), flipScan(data));
    const widths = { y: E, du: E, ddelta: E, dz: E, dB: N, dC: N };
    const back = Object.entries(widths).map(([name, width]) => [name, flip(flipped[name] ?? [], [B, L, width])]);
    expectSame(await runScan(backend(), data, { reverse: true }), { ...flipped, ...(Object.fromEntries(back) as Record<string, Float64Array>) }, limit);
  });
});

describe.each(compiledKernels)('threads, %s', (kernels) => {
  const withThreads = async <T>(threads: number, body: (backend: Backend) => Promise<T>): Promise<T> => {
    const backend = await openBackend('cpu', { kernels, threads, poison: true });
    try {
      const result = await body(backend);
      expect(backend.statistics().liveBuffers).toBe(0);
      return result;
    } finally {
      await backend.close();
    }
  };

  test('1, 2 or 3 threads, and any run, give the same bits', async () => {
    const data = randomScan(2, 200, 150, 16, [0, 77]);
    const one = await withThreads(1, (backend) => runScan(backend, data));
    for (const threads of [2, 2, 3]) expect(await withThreads(threads, (backend) => runScan(backend, data))).toEqual(one);
  });

  test.each([
    { reverse: false, starts: undefined, discretization: 'euler' },
    { reverse: false, starts: [0, 100, 128, 700], discretization: 'zoh' },
    { reverse: true, starts: [0, 100, 128, 700], discretization: 'euler' },
  ] as const)('few channels and many threads: segments at the same time, $discretization, reverse $reverse', async ({ starts, ...options }) => {
    const data = randomScan(1, 1000, 16, 5, starts);
    const expected = await runScan(reference(), data, options);
    const segmented = await withThreads(16, (backend) => runScan(backend, data, options));
    expectSame(segmented, expected, 1e-5);
    expect(await withThreads(16, (backend) => runScan(backend, data, options))).toEqual(segmented);
    const sequential = await withThreads(2, (backend) => runScan(backend, data, options));
    // Unless bits differ, the segments were not what was tested.
    if (starts === undefined) expect(segmented['y']).not.toEqual(sequential['y']);
  });
});

describe('arguments', () => {
  const backend = useBackend('reference');
  const zeros = (shape: number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => tensor(backend(), () => new Float32Array(shape.reduce((a, b) => a * b, 1)), shape, dtype);
  const good = () => ({ u: zeros([2, 4, 3]), delta: zeros([2, 4, 3]), A: zeros([3, 5]), B: zeros([2, 4, 5]), C: zeros([2, 4, 5]) });
  const bad: [string, Record<string, () => unknown>, new (message: string) => Error, RegExp][] = [
    ['u without positions', { u: () => zeros([4, 3]) }, ShapeError, /selectiveScan: u is \[4,3\]; expected \[B,L,E\]/],
    ['delta of another length', { delta: () => zeros([2, 3, 3]) }, ShapeError, /delta is \[2,3,3\]; expected \[B,L,E\] = \[2,4,3\].*Hint: as u/],
    ['A of other channels', { A: () => zeros([4, 5]) }, ShapeError, /A is \[4,5\]; expected \[E,N\] = \[3,5\]/],
    ['B of another state size', { B: () => zeros([2, 4, 6]) }, ShapeError, /B is \[2,4,6\]; expected \[B,L,N\] = \[2,4,5\]/],
    ['C of another state size', { C: () => zeros([2, 4, 6]) }, ShapeError, /C is .*; expected \[B,L,N\]/],
    ['D of other channels', { D: () => zeros([4]) }, ShapeError, /D is \[4\]; expected \[E\] = \[3\]/],
    ['z of another shape', { z: () => zeros([2, 4, 6]) }, ShapeError, /z is/],
    ['deltaBias of other channels', { deltaBias: () => zeros([1]) }, ShapeError, /deltaBias is/],
    ['initialState of another shape', { initialState: () => zeros([2, 5, 3]) }, ShapeError, /initialState is \[2,5,3\]; expected \[B,E,N\]/],
    ['float starts', { sequenceStarts: () => zeros([2, 4]) }, DTypeError, /sequenceStarts is f32; expected i32/],
    ['starts of another shape', { sequenceStarts: () => zeros([2, 5], 'i32') }, ShapeError, /sequenceStarts is/],
    ['integer u', { u: () => zeros([2, 4, 3], 'i32') }, DTypeError, /u is i32; expected f32/],
    ['another discretization', { discretization: () => 'bilinear' }, ArgumentError, /discretization is 'bilinear'; expected 'euler' or 'zoh'/],
    ['no positions', { u: () => zeros([2, 0, 3]) }, ArgumentError, /u is \[2,0,3\]; expected no extent of 0/],
    ['too many states', { A: () => zeros([3, 2049]), B: () => zeros([2, 4, 2049]), C: () => zeros([2, 4, 2049]) }, ArgumentError, /at most 2048 states/],
  ];
  test.each(bad)('%s: refused before anything is launched', (_name, changes, type, message) => {
    scope(() => {
      const { u, delta, A, B, C, ...options } = { ...good(), ...Object.fromEntries(Object.entries(changes).map(([name, make]) => [name, make()])) };
      const before = backend().statistics();
      const call = () => selectiveScan(u, delta, A, B, C, options);
      expect(call).toThrow(message);
      expect(call).toThrow(type);
      expect(backend().statistics()).toEqual(before);
    });
  });

  test('a step wants a dense state', () => {
    scope(() => {
      const gaps = zeros([2, 3, 8]).aliased([2, 3, 5], 0, 8);
      expect(() => selectiveScanStep(gaps, zeros([2, 3]), zeros([2, 3]), zeros([3, 5]), zeros([2, 5]), zeros([2, 5]))).toThrow(/state is a tensor with 8 elements/);
    });
  });
});

// A backend of its own, closed without a count of live buffers: a tape whose rule throws keeps what it had collected.
test('a gradient through a step of decoding is refused', async () => {
  const backend = await openBackend('reference');
  scope(() => {
    const zeros = (shape: number[]): Tensor => tensor(backend, new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);
    const [state, u, A, B] = [zeros([2, 3, 5]), zeros([2, 3]), zeros([3, 5]), zeros([2, 5])];
    const tape = new Tape([u]);
    const y = tape.run(() => selectiveScanStep(state, u, u, A, B, B));
    expect(() => tape.backward([y], [zeros([2, 3])], [u])).toThrow(/selectiveScanStep: is not differentiable/);
    const later = new Tape([u]);
    const second = later.run(() => {
      selectiveScanStep(state, u, u, A, B, B);
      const fresh = zeros([2, 3]);
      return selectiveScanStep(state, fresh, fresh, A, B, B);
    });
    expect(() => later.backward([second], [zeros([2, 3])], [u]), 'through the state').toThrow(/not differentiable/);
  });
  await backend.close();
});
