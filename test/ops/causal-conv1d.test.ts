import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { causalConv1d, type CausalConv1dOptions } from '../../src/ops/causal-conv1d/causal-conv1d.js';
import { causalConv1dStep } from '../../src/ops/causal-conv1d/step.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';

const normals = (seed: number, size: number) => {
  const random = new Random(seed);
  return Float32Array.from({ length: size }, () => random.normal());
};

const bytesOf = (values: Float64Array) => Buffer.from(values.buffer as ArrayBuffer);

/** The values of several tensors; disposes them. */
async function read<T extends Record<string, Tensor>>(tensors: T): Promise<Record<keyof T, Float64Array>> {
  const entries: [string, Float64Array][] = [];
  for (const [name, value] of Object.entries(tensors)) entries.push([name, await value.exactData()]);
  for (const value of Object.values(tensors)) value.dispose();
  return Object.fromEntries(entries) as Record<keyof T, Float64Array>;
}

const E = 37;
const parameters = (taps: number) => ({ weight: normals(1, E * taps), bias: normals(2, E) });

describe.each(compiledKernels)('%s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const oneThread = useBackend('cpu', { kernels, threads: 1 });

  /** One convolution of values [1, L, E] with silu and a bias. */
  const convolve = (
    taps: number,
    x: ArrayLike<number>,
    options: { state?: ArrayLike<number>; starts?: ArrayLike<number> } = {},
  ) => {
    const { weight, bias } = parameters(taps);
    const length = x.length / E;
    return read(
      scope(() =>
        causalConv1d(tensor(backend(), x, [1, length, E]), tensor(backend(), weight, [E, taps]), {
          bias: tensor(backend(), bias, [E]),
          activation: 'silu',
          initialState: options.state ? tensor(backend(), options.state, [1, taps - 1, E]) : null,
          sequenceStarts: options.starts ? tensor(backend(), options.starts, [1, length], 'i32') : null,
        }),
      ),
    );
  };

  describe.each([1, 2, 4, 7])('K = %i', (taps) => {
    test('any split with the state carried over gives what the whole sequence gives', async () => {
      const x = normals(3, 20 * E);
      const starts = Int32Array.from({ length: 20 }, (_, t) => (t === 0 || t === 9 || t === 11 ? 1 : 0));
      const whole = await convolve(taps, x, { starts });
      for (const lengths of [[10, 10], [1, 19], [19, 1], [2, 2, 3, 1, 1, 11], Array<number>(20).fill(1)]) {
        let state: Float64Array = new Float64Array((taps - 1) * E);
        const pieces: number[] = [];
        let at = 0;
        for (const length of lengths) {
          const piece = await convolve(taps, x.subarray(at * E, (at + length) * E), {
            state,
            starts: starts.subarray(at, at + length),
          });
          pieces.push(...piece.y);
          state = piece.finalState;
          at += length;
        }
        expectClose(pieces, whole.y, tolerance(taps), `y in pieces of ${lengths.join(', ')}`);
        expect([...state], `final state in pieces of ${lengths.join(', ')}`).toEqual([...whole.finalState]);
      }
    });

    test('steps give what the sequence gives, and leave its final state', async () => {
      const x = normals(4, 9 * E);
      const start = normals(5, (taps - 1) * E);
      const whole = await convolve(taps, x, { state: start });
      const { weight, bias } = parameters(taps);
      const result = await read(
        scope(() => {
          const state = tensor(backend(), start, [1, taps - 1, E]);
          const w = tensor(backend(), weight, [E, taps]);
          const b = tensor(backend(), bias, [E]);
          const ys = Array.from({ length: 9 }, (_, t) => {
            const row = tensor(backend(), x.slice(t * E, (t + 1) * E), [1, E]);
            return causalConv1dStep(state, row, w, { bias: b, activation: 'silu' });
          });
          return { state, ...Object.fromEntries(ys.map((y, t) => [`y${t}`, y])) };
        }),
      );
      const ys = Array.from({ length: 9 }, (_, t) => Array.from((result as Record<string, ArrayLike<number>>)[`y${t}`] ?? [])).flat();
      expectClose(ys, whole.y, tolerance(taps), 'y');
      expect([...result['state']]).toEqual([...whole.finalState]);
    });

    test('packed documents give what each gives alone, gradients included', async () => {
      const lengths = [1, 2, 13, 3, 1, 20, 5];
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const x = normals(6, total * E);
      const dy = normals(7, total * E);
      const dfinal = normals(8, (taps - 1) * E);
      const { weight, bias } = parameters(taps);
      const run = (from: number, length: number, options: { starts?: Int32Array; final?: boolean }) =>
        read(
          scope(() => {
            const slice = (values: Float32Array) => tensor(backend(), values.subarray(from * E, (from + length) * E), [1, length, E]);
            const inputs = [slice(x), tensor(backend(), weight, [E, taps]), tensor(backend(), bias, [E])] as const;
            const settings: CausalConv1dOptions = {
              bias: inputs[2],
              activation: 'silu',
              sequenceStarts: options.starts ? tensor(backend(), options.starts, [1, length], 'i32') : null,
            };
            const tape = new Tape(inputs);
            const { y, finalState } = tape.run(() => causalConv1d(inputs[0], inputs[1], settings));
            const cotangents = [slice(dy)];
            if (options.final) cotangents.push(tensor(backend(), dfinal, [1, taps - 1, E]));
            const [dx, dweight, dbias] = tape.backward(options.final ? [y, finalState] : [y], cotangents, inputs);
            return { y, finalState, dx, dweight, dbias } as Record<'y' | 'finalState' | 'dx' | 'dweight' | 'dbias', Tensor>;
          }),
        );
      const starts = new Int32Array(total);
      const y: number[] = [];
      const dx: number[] = [];
      const dweight = new Float64Array(E * taps);
      const dbias = new Float64Array(E);
      let finalState: Float64Array = new Float64Array();
      let at = 0;
      for (const [i, length] of lengths.entries()) {
        starts[at] = 1;
        const alone = await run(at, length, { final: i === lengths.length - 1 });
        y.push(...alone.y);
        dx.push(...alone.dx);
        alone.dweight.forEach((value, k) => (dweight[k] = (dweight[k] ?? NaN) + value));
        alone.dbias.forEach((value, k) => (dbias[k] = (dbias[k] ?? NaN) + value));
        finalState = alone.finalState;
        at += length;
      }
      const packed = await run(0, total, { starts, final: true });
      expectClose(packed.y, y, tolerance(taps), 'y');
      expectClose(packed.dx, dx, tolerance(taps), 'dx');
      expectClose(packed.dweight, dweight, tolerance(total), 'dweight');
      expectClose(packed.dbias, dbias, tolerance(total), 'dbias');
      expect([...packed.finalState]).toEqual([...finalState]);
    });
  });

  test('runs repeat to the bit, on any number of threads', async () => {
    const [B, L, channels, K] = [3, 150, 200, 4];
    const run = (on: ReturnType<typeof backend>) =>
      read(
        scope(() => {
          const x = tensor(on, normals(9, B * L * channels), [B, L, channels]);
          const weight = tensor(on, normals(10, channels * K), [channels, K]);
          const tape = new Tape([x, weight]);
          const { y } = tape.run(() => causalConv1d(x, weight, { activation: 'silu' }));
          const dy = tensor(on, normals(11, B * L * channels), [B, L, channels]);
          const [dx, dweight] = tape.backward([y], [dy], [x, weight]) as [Tensor, Tensor];
          return { y, dx, dweight };
        }),
      );
    const first = await run(backend());
    for (const on of [backend(), backend(), backend(), oneThread()]) {
      const again = await run(on);
      for (const name of ['y', 'dx', 'dweight'] as const) {
        expect(bytesOf(again[name]).equals(bytesOf(first[name])), name).toBe(true);
      }
    }
  });

  test('empty sequences hand the state on', async () => {
    const state = normals(12, 3 * E);
    const { y, finalState } = await convolve(4, [], { state });
    expect(y).toHaveLength(0);
    expect([...finalState]).toEqual([...state]);
  });
});

describe('arguments', () => {
  const backend = useBackend('reference');
  const zeros = (...shape: number[]) => tensor(backend(), new Float64Array(shape.reduce((a, b) => a * b, 1)), shape);

  test.each<[string, RegExp, new (problem: string) => Error, () => unknown]>([
    ['x without batch', /causalConv1d: x is \[3,4\]; expected \[B,L,E\]/, ShapeError, () => causalConv1d(zeros(3, 4), zeros(4, 4))],
    ['weight of other channels', /weight is \[5,4\]; expected \[E,K\] = \[4,4\]/, ShapeError, () => causalConv1d(zeros(1, 3, 4), zeros(5, 4))],
    ['weight [E,1,K]', /weight is \[4,1,4\]; expected \[E,K\]/, ShapeError, () => causalConv1d(zeros(1, 3, 4), zeros(4, 1, 4))],
    ['no taps', /weight is \[4,0\]; expected \[E,K\] with K from 1/, ShapeError, () => causalConv1d(zeros(1, 3, 4), zeros(4, 0))],
    ['bias', /bias is \[3\]; expected \[E\] = \[4\]/, ShapeError, () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { bias: zeros(3) })],
    [
      'initial state of K rows',
      /initialState is \[1,4,4\]; expected \[B,K−1,E\] = \[1,3,4\]/,
      ShapeError,
      () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { initialState: zeros(1, 4, 4) }),
    ],
    [
      'place of the final state: shape',
      /finalState is \[1,4,4\]; expected \[B,K−1,E\] = \[1,3,4\]/,
      ShapeError,
      () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { finalState: zeros(1, 4, 4) }),
    ],
    [
      'place of the final state: gaps',
      /finalState is a pitch of 8; expected rows without gaps/,
      ShapeError,
      () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { finalState: zeros(1, 3, 8).aliased([1, 3, 4], 0, 8) }),
    ],
    [
      'starts in floats',
      /sequenceStarts is f32; expected i32/,
      DTypeError,
      () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { sequenceStarts: zeros(1, 3) }),
    ],
    [
      'activation',
      /activation is 'gelu'; expected 'silu' or 'none'/,
      ArgumentError,
      () => causalConv1d(zeros(1, 3, 4), zeros(4, 4), { activation: 'gelu' as 'silu' }),
    ],
    ['step: state', /causalConv1dStep: state is \[2,3,5\]/, ShapeError, () => causalConv1dStep(zeros(2, 3, 5), zeros(2, 4), zeros(4, 4))],
  ])('%s', (_, message, error, call) => {
    scope(() => {
      expect(call).toThrow(error);
      expect(call).toThrow(message);
    });
  });
});
