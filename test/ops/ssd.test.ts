import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { ssd } from '../../src/ops/ssd/ssd.js';
import { ssdStep } from '../../src/ops/ssd/ssd-step.js';
import { scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { addUp } from './scan-support.js';
import { cut, forwardSsd, randomSsd, runSsd, startsAt, without, type SsdData, type SsdResults } from './ssd-support.js';

const backends = [
  { name: 'reference', kind: 'reference', options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
] as const;

const sizes = { B: 1, L: 150, H: 4, P: 9, G: 2, N: 12 };
const { H, P, N } = sizes;
const usual = { groups: sizes.G, deltaSoftplus: true, deltaLimits: [0.01, 2] } as const;
const shared = ['dA', 'dD', 'ddeltaBias'];

function expectSame(actual: Record<string, ArrayLike<number>>, expected: Record<string, ArrayLike<number>>, limit: number): void {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, values] of Object.entries(expected)) expectClose(actual[name] ?? [], values, limit, name);
}

/** Results of pieces of one sequence, together. */
function join(pieces: readonly SsdResults[]): Record<string, ArrayLike<number>> {
  const along = ['y', 'dx', 'ddelta', 'dB', 'dC', 'dz'].map((name) => [name, pieces.flatMap((piece) => Array.from(piece[name] ?? []))]);
  return { ...(Object.fromEntries(along) as Record<string, number[]>), ...Object.fromEntries(shared.map((name) => [name, addUp(pieces, name)])) };
}

describe.each(backends)('ssd on $name', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  test('any chunk gives what any other gives', async () => {
    const data = { ...randomSsd(sizes), sequenceStarts: startsAt(1, sizes.L, [30, 100]) };
    const whole = await runSsd(backend(), data, { ...usual, chunk: 256 });
    for (const chunk of [1, 7, 16, 64, 150]) expectSame(await runSsd(backend(), data, { ...usual, chunk }), whole, limit);
  });

  test.each([[[1]], [[64]], [[63, 128]], [[10, 74, 75]]])('cut at %j with the state carried: as in one piece', async (cuts) => {
    const data = randomSsd(sizes);
    const whole = await runSsd(backend(), data, usual);
    const bounds = [0, ...cuts, sizes.L];
    const shape = [1, H, P, N];
    const states: ArrayLike<number>[] = [data['initialState']?.values ?? []];
    const pieceOf = (i: number, dFinal: ArrayLike<number>): SsdData => ({
      ...cut(data, bounds[i] ?? 0, bounds[i + 1] ?? 0),
      initialState: { shape, values: states[i] ?? [] },
      dFinalState: { shape, values: dFinal },
    });
    let carried: ArrayLike<number> = data['dFinalState']?.values ?? [];
    for (let i = 0; i + 1 < bounds.length; i++) states.push((await runSsd(backend(), pieceOf(i, carried), usual))['finalState'] ?? []);
    const pieces: SsdResults[] = [];
    for (let i = bounds.length - 2; i >= 0; i--) {
      const piece = await runSsd(backend(), pieceOf(i, carried), usual);
      carried = piece['dinitialState'] ?? [];
      pieces.unshift(piece);
    }
    expectSame({ ...join(pieces), finalState: states.at(-1) ?? [], dinitialState: carried }, whole, limit);
  });

  test('documents packed in a row: as each by itself', async () => {
    const bounds = [0, 1, 65, 100, 150];
    const data = { ...without(randomSsd(sizes), 'initialState'), sequenceStarts: startsAt(1, sizes.L, bounds) };
    const whole = await runSsd(backend(), data, usual);
    const zeros = { shape: [1, H, P, N], values: new Float32Array(H * P * N) };
    const pieces: SsdResults[] = [];
    for (let i = 0; i + 1 < bounds.length; i++) {
      const piece = without(cut(data, bounds[i] ?? 0, bounds[i + 1] ?? 0), 'sequenceStarts');
      pieces.push(await runSsd(backend(), i === bounds.length - 2 ? piece : { ...piece, dFinalState: zeros }, usual));
    }
    expectSame({ ...join(pieces), finalState: pieces.at(-1)?.['finalState'] ?? [] }, whole, limit);
  });

  test('nothing of a document reaches the next, NaN and the initial state neither', async () => {
    const data = { ...randomSsd(sizes), sequenceStarts: startsAt(1, sizes.L, [40]) };
    const clean = await runSsd(backend(), data, usual);
    const spoilt = (name: string, count: number) => {
      const { shape, values } = data[name as keyof typeof data] as { shape: number[]; values: Float32Array };
      return { shape, values: values.map((value, i) => (i < count ? NaN : value)) };
    };
    const dirty = await runSsd(backend(), { ...data, x: spoilt('x', 40 * H * P), initialState: spoilt('initialState', H * P * N) }, usual);
    expect(dirty['y']?.[39 * H * P]).toBeNaN();
    expect(dirty['y']?.slice(40 * H * P)).toEqual(clean['y']?.slice(40 * H * P));
    expect(dirty['finalState']).toEqual(clean['finalState']);
    expect(dirty['dx']?.slice(40 * H * P)).toEqual(clean['dx']?.slice(40 * H * P));
  });

  test.each(['head', 'feature'])('step by step: as the sequence (D by %s)', async (skip) => {
    const [B, L] = [2, 20];
    const random = randomSsd({ ...sizes, B, L });
    const data: SsdData = skip === 'head' ? random : { ...random, D: { shape: [H * P], values: Float32Array.from({ length: H * P }, (_, i) => Math.sin(i)) } };
    const whole = await runSsd(backend(), data, usual);
    const fixed = (name: string): Tensor => tensor(backend(), data[name]?.values ?? [], data[name]?.shape ?? []);
    const { state, outputs } = scope(() => {
      const kept = { state: fixed('initialState'), A: fixed('A'), D: fixed('D'), deltaBias: fixed('deltaBias') };
      const steps = Array.from({ length: L }, (_, t) => {
        const at = cut(data, t, t + 1);
        const row = (name: string): Tensor => tensor(backend(), at[name]?.values ?? [], [B, at[name]?.shape[2] ?? 0]);
        return ssdStep(kept.state, row('x'), row('delta'), kept.A, row('B'), row('C'), { ...usual, D: kept.D, z: row('z'), deltaBias: kept.deltaBias });
      });
      return { state: kept.state, outputs: steps };
    });
    const y = new Float64Array(B * L * H * P);
    for (const [t, output] of outputs.entries()) {
      const values = await output.exactData();
      for (let b = 0; b < B; b++) y.set(values.subarray(b * H * P, (b + 1) * H * P), (b * L + t) * H * P);
      output.dispose();
    }
    expectClose(y, whole['y'] ?? [], limit, 'y');
    expectClose(await state.exactData(), whole['finalState'] ?? [], limit, 'state');
    state.dispose();
  });
});

describe.each(compiledKernels)('ssd, %s', (kernels) => {
  // Other kernels multiply in float32 whatever the precision is.
  const precisions = kernels === 'avx512' ? (['f32', 'bf16'] as const) : (['f32'] as const);

  // Few threads take blocks of heads, more take chunks: of all states at once, or of some at a time where the shared memory has no room for more.
  test.each([
    ['blocks of heads', { B: 2, L: 70, H: 6, P: 10, G: 1, N: 12 }, [67], [2, 2, 3]],
    ['chunks', { B: 1, L: 300, H: 2, P: 20, G: 1, N: 19 }, [], [3, 7]],
    ['chunks of documents', { B: 2, L: 270, H: 2, P: 5, G: 2, N: 6 }, [3, 64, 70, 71, 200], [5, 16]],
    ['chunks, some at a time', { B: 1, L: 130, H: 4, P: 64, G: 2, N: 512 }, [123], [7], 8],
  ] as const)('%s: any number of threads gives the same bits, in any run', async (_name, size, starts, counts, chunk?: number) => {
    const random = randomSsd(size);
    const data: SsdData = starts.length === 0 ? without(random, 'initialState') : { ...random, sequenceStarts: startsAt(size.B, size.L, starts) };
    const options = { groups: size.G, deltaSoftplus: true, chunk };
    const bits = (results: SsdResults) => Object.fromEntries(Object.entries(results).map(([name, { buffer }]) => [name, createHash('sha256').update(new Uint8Array(buffer)).digest('hex')]));
    const withThreads = async (threads: number, precision: 'f32' | 'bf16'): Promise<Record<string, string>> => {
      const backend: Backend = await openBackend('cpu', { kernels, threads, precision, poison: true });
      try {
        const recorded = bits(await runSsd(backend, data, options));
        expect(recorded, 'as where gradients are not recorded').toMatchObject(bits(await forwardSsd(backend, data, options)));
        expect(backend.statistics().liveBuffers).toBe(0);
        return recorded;
      } finally {
        await backend.close();
      }
    };
    for (const precision of precisions) {
      const one = await withThreads(1, precision);
      for (const threads of counts) expect(await withThreads(threads, precision), `${threads} threads, ${precision}`).toEqual(one);
    }
  });

  // Numbers of which bfloat16 holds every factor of a product, and float32 every sum.
  test.each([
    ['no state before', { B: 1, L: 100, H: 2, P: 5, G: 1, N: 3 }, 0],
    ['a state before', { B: 2, L: 40, H: 3, P: 20, G: 3, N: 17 }, 1],
    ['a chunk of less than a tile', { B: 1, L: 9, H: 1, P: 1, G: 1, N: 1 }, 1],
    ['many tiles', { B: 1, L: 90, H: 2, P: 130, G: 1, N: 70 }, 1],
  ] as const)('in bfloat16, %s: exact where nothing is rounded', async (_name, size, initial) => {
    const { B, L, H: heads, P: features, G, N: states } = size;
    const made = (shape: number[], value: (i: number) => number) => ({ shape, values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => value(i)) });
    // B is 1 in one state at a position, C in another: C·B is 0 or 1, and states are small whole numbers.
    const data = {
      x: made([B, L, heads * features], (i) => (i % 3) - 1),
      delta: made([B, L, heads], () => 1),
      A: made([heads], () => 0),
      B: made([B, L, G * states], (i) => Number(i % 5 === 0)),
      C: made([B, L, G * states], (i) => Number(i % 7 === 0)),
      ...(initial === 1 ? { initialState: made([B, heads, features, states], (i) => (i % 4) - 2) } : {}),
    };
    const results: SsdResults[] = [];
    for (const precision of ['f32', 'bf16'] as const) {
      const backend = await openBackend('cpu', { kernels, threads: 2, precision, poison: true });
      results.push(await forwardSsd(backend, data, { groups: G }));
      await backend.close();
    }
    expect(results[1]).toEqual(results[0]);
  });

  test.each([[16], [64], [100]])('in bfloat16, chunks of %d: within what one rounding of each factor costs', async (chunk) => {
    const data = { ...randomSsd({ B: 2, L: 200, H: 3, P: 37, G: 1, N: 70 }), sequenceStarts: startsAt(2, 200, [50, 130]) };
    const exact = await openBackend('cpu', { kernels, threads: 2, poison: true });
    const rounded = await openBackend('cpu', { kernels, threads: 2, precision: 'bf16', poison: true });
    expectSame(await forwardSsd(rounded, data, { deltaSoftplus: true, chunk }), await forwardSsd(exact, data, { deltaSoftplus: true, chunk }), 2 ** -7);
    for (const backend of [exact, rounded]) await backend.close();
  });

  test('the largest sizes that a task takes at a time', async () => {
    const backend = await openBackend('cpu', { kernels, threads: 1, poison: true });
    for (const [L, headSize, N, chunk] of [[256, 128, 128, 256], [64, 128, 512, 64], [200, 130, 3, 200]] as const) {
      const data = randomSsd({ B: 1, L, H: 1, P: headSize, G: 1, N });
      const large = await runSsd(backend, data, { deltaSoftplus: true, chunk });
      expectSame(large, await runSsd(backend, data, { deltaSoftplus: true, chunk: 16 }), 2e-5);
    }
    await backend.close();
  });
});

describe('ssd: arguments', () => {
  const backend = useBackend('reference');
  const zeros = (shape: number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => tensor(backend(), () => new Float32Array(shape.reduce((a, b) => a * b, 1)), shape, dtype);
  const good = () => ({ x: zeros([2, 4, 6]), delta: zeros([2, 4, 3]), A: zeros([3]), B: zeros([2, 4, 5]), C: zeros([2, 4, 5]) });
  const bad: [string, Record<string, () => unknown>, new (message: string) => Error, RegExp][] = [
    ['x without positions', { x: () => zeros([4, 6]) }, ShapeError, /ssd: x is \[4,6\]; expected \[B,L,H·P\]/],
    ['x that heads do not divide', { x: () => zeros([2, 4, 7]) }, ShapeError, /x is \[2,4,7\]; expected \[B,L,H·P\], a multiple of the 3 heads that A has/],
    ['no positions', { x: () => zeros([2, 0, 6]) }, ArgumentError, /x is \[2,0,6\]; expected no extent of 0/],
    ['delta of another length', { delta: () => zeros([2, 3, 3]) }, ShapeError, /delta is \[2,3,3\]; expected \[B,L,H\] = \[2,4,3\]/],
    ['A with states', { A: () => zeros([3, 5]) }, ShapeError, /A is \[3,5\]; expected \[H\]/],
    ['groups that do not divide the heads', { groups: () => 2 }, ArgumentError, /groups is 2; expected a divisor of the 3 heads that A has/],
    ['half a group', { groups: () => 0.5 }, ArgumentError, /groups is 0.5; expected a divisor/],
    ['B that groups do not divide', { groups: () => 3 }, ShapeError, /B is \[2,4,5\]; expected \[B,L,G·N\], a multiple of the 3 groups/],
    ['B of another length', { B: () => zeros([2, 3, 5]) }, ShapeError, /B is \[2,3,5\]; expected \[B,L,G·N\] = \[2,4,5\]/],
    ['C of another size', { C: () => zeros([2, 4, 6]) }, ShapeError, /C is \[2,4,6\]; expected \[B,L,G·N\] = \[2,4,5\].*Hint: as B/],
    ['too many states', { B: () => zeros([2, 4, 513]), C: () => zeros([2, 4, 513]) }, ArgumentError, /B is N = 513; expected at most 512 states/],
    ['D of neither', { D: () => zeros([4]) }, ShapeError, /D is \[4\]; expected \[H\] = \[3\] or \[H·P\] = \[6\]/],
    ['D of rank 2', { D: () => zeros([3, 2]) }, ShapeError, /D is \[3,2\]; expected \[H\]/],
    ['z of another shape', { z: () => zeros([2, 4, 3]) }, ShapeError, /z is \[2,4,3\]; expected \[B,L,H·P\]/],
    ['deltaBias of other heads', { deltaBias: () => zeros([6]) }, ShapeError, /deltaBias is \[6\]; expected \[H\]/],
    ['limits the wrong way round', { deltaLimits: () => [1, 0.5] }, ArgumentError, /deltaLimits is .*; expected \[least, largest\] with least ≤ largest/],
    ['a limit that is NaN', { deltaLimits: () => [NaN, 1] }, ArgumentError, /deltaLimits is/],
    ['initialState of another shape', { initialState: () => zeros([2, 3, 5, 2]) }, ShapeError, /initialState is \[2,3,5,2\]; expected \[B,H,P,N\] = \[2,3,2,5\]/],
    ['float starts', { sequenceStarts: () => zeros([2, 4]) }, DTypeError, /sequenceStarts is f32; expected i32/],
    ['starts of another shape', { sequenceStarts: () => zeros([2, 5], 'i32') }, ShapeError, /sequenceStarts is \[2,5\]/],
    ['a chunk of nothing', { chunk: () => 0 }, ArgumentError, /chunk is 0; expected an integer from 1 to 256/],
    ['a chunk too long', { chunk: () => 257 }, ArgumentError, /chunk is 257; expected an integer from 1 to 256/],
    ['a chunk too long for the states', { chunk: () => 129, B: () => zeros([2, 4, 256]), C: () => zeros([2, 4, 256]) }, ArgumentError, /chunk is 129; expected an integer from 1 to 128/],
  ];
  test.each(bad)('%s: refused before anything is launched', (_name, changes, type, message) => {
    scope(() => {
      const { x, delta, A, B, C, ...options } = { ...good(), ...Object.fromEntries(Object.entries(changes).map(([name, make]) => [name, make()])) };
      const before = backend().statistics();
      const call = () => ssd(x, delta, A, B, C, options);
      expect(call).toThrow(message);
      expect(call).toThrow(type);
      expect(backend().statistics()).toEqual(before);
    });
  });

  test('a step wants a dense state', () => {
    scope(() => {
      const gaps = zeros([2, 3, 2, 8]).aliased([2, 3, 2, 5], 0, 8);
      expect(() => ssdStep(gaps, zeros([2, 6]), zeros([2, 3]), zeros([3]), zeros([2, 5]), zeros([2, 5]))).toThrow(/state is a tensor with 8 elements/);
    });
  });
});
