import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { fftConv } from '../../src/ops/fft/fft-conv.js';
import { fft } from '../../src/ops/fft/fft.js';
import { irfft, rfft } from '../../src/ops/fft/real-fft.js';
import { scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';

const limit = 1e-5;

const normals = (seed: number, size: number) => {
  const random = new Random(seed);
  return Float32Array.from({ length: size }, () => random.normal());
};

async function valuesOf(make: () => Tensor): Promise<Float64Array> {
  const result = scope(make);
  const values = await result.exactData();
  result.dispose();
  return values;
}

/** y of one sequence of one feature at position t. */
function directSum(x: ArrayLike<number>, kernel: ArrayLike<number>, D: number, reverse: ArrayLike<number>, t: number): number {
  let sum = D * (x[t] ?? NaN);
  for (let j = 0; j < Math.min(kernel.length, t + 1); j++) sum += (kernel[j] ?? NaN) * (x[t - j] ?? NaN);
  for (let j = 0; j < reverse.length && t + 1 + j < x.length; j++) sum += (reverse[j] ?? NaN) * (x[t + 1 + j] ?? NaN);
  return sum;
}

interface Convolution {
  readonly B: number;
  readonly L: number;
  readonly H: number;
  readonly C: number;
  readonly K: number;
  readonly R: number;
}

/** Lengths that are hard for transforms, with other sizes drawn at random. */
const convolutions: readonly Convolution[] = [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 129, 251].flatMap((L) => {
  const random = new Random(L);
  const below = (bound: number) => 1 + random.integer(bound);
  return [1, 2].map(() => ({ B: below(2), L, H: below(L > 100 ? 3 : 19), C: below(2), K: below(L), R: below(L) }));
});

const made = new Map<Convolution, ReturnType<typeof makeConvolution>>();
const convolutionOf = (sizes: Convolution) => {
  const known = made.get(sizes) ?? makeConvolution(sizes);
  made.set(sizes, known);
  return known;
};

function makeConvolution({ B, L, H, C, K, R }: Convolution) {
  const [x, kernel, D, reverse] = [B * L * H, C * H * K, C * H, C * H * R].map((size, i) => normals(L + i, size)) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const expected = new Float64Array(B * L * C * H);
  for (let b = 0; b < B; b++) {
    for (let filter = 0; filter < C * H; filter++) {
      const own = Float32Array.from({ length: L }, (_, s) => x[(b * L + s) * H + (filter % H)] ?? NaN);
      const [taps, reverseTaps] = [kernel.subarray(filter * K, (filter + 1) * K), reverse.subarray(filter * R, (filter + 1) * R)];
      for (let t = 0; t < L; t++) expected[(b * L + t) * C * H + filter] = directSum(own, taps, D[filter] ?? NaN, reverseTaps, t);
    }
  }
  return { x, kernel, D, reverse, expected };
}

describe.each(compiledKernels)('%s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const oneThread = useBackend('cpu', { kernels, threads: 1 });

  const convolved = (x: ArrayLike<number>, [B, L, H]: readonly [number, number, number], kernel: ArrayLike<number>, C = 1, on: Backend = backend()) =>
    valuesOf(() => fftConv(tensor(on, x, [B, L, H]), tensor(on, kernel, [C, H, kernel.length / C / H])));

  test.each(convolutions)('a convolution is its direct sum: B $B, L $L, H $H, C $C, K $K, reverse $R', async (sizes) => {
    const { B, L, H, C, K, R } = sizes;
    const { x, kernel, D, reverse, expected } = convolutionOf(sizes);
    const actual = await valuesOf(() =>
      fftConv(tensor(backend(), x, [B, L, H]), tensor(backend(), kernel, [C, H, K]), {
        D: tensor(backend(), D, [C, H]),
        reverseKernel: tensor(backend(), reverse, [C, H, R]),
      }),
    );
    expectClose(actual, expected, limit, 'y');
  });

  test.each([[5, 3], [64, 16], [100, 21]])('it is linear, and moves with its input: L = %i, H = %i', async (L, H) => {
    const [a, b, kernel] = [normals(1, L * H), normals(2, L * H), normals(3, L * H)];
    const [ya, yb] = [await convolved(a, [1, L, H], kernel), await convolved(b, [1, L, H], kernel)];
    const both = await convolved(a.map((value, i) => 2 * value - 3 * (b[i] ?? NaN)), [1, L, H], kernel);
    expectClose(both, ya.map((value, i) => 2 * value - 3 * (yb[i] ?? NaN)), limit, 'linear');
    const moved = await convolved(a.map((_, i) => a[i - 2 * H] ?? 0), [1, L, H], kernel);
    expectClose(moved, ya.map((_, i) => ya[i - 2 * H] ?? 0), limit, 'moved by 2 positions');
  });

  test('of sequences so long that threads have no room for them', async () => {
    const [L, H] = [8200, 3];
    const [x, kernel] = [normals(4, L * H), normals(5, H * L)];
    const y = await convolved(x, [1, L, H], kernel);
    const places = [0, 1, 4099, 8191, 8192, 8199].flatMap((t) => [0, 1, 2].map((h) => [t, h] as const));
    const expected = places.map(([t, h]) =>
      directSum(Float32Array.from({ length: L }, (_, s) => x[s * H + h] ?? NaN), kernel.subarray(h * L, (h + 1) * L), 0, [], t),
    );
    expectClose(places.map(([t, h]) => y[t * H + h] ?? NaN), expected, limit, 'y');
  });

  test.each([
    [3, 150, 40, 2],
    [4, 33, 5, 1],
    [1, 8200, 5, 1],
  ])('the same bits on any number of threads: B %i, L %i, H %i, C %i', async (B, L, H, C) => {
    const run = async (on: Backend) => {
      const made = scope(() => {
        const [x, kernel] = [tensor(on, normals(6, B * L * H), [B, L, H]), tensor(on, normals(7, C * H * L), [C, H, L])];
        const tape = new Tape([x, kernel]);
        const y = tape.run(() => fftConv(x, kernel));
        const [dx, dkernel] = tape.backward([y], [tensor(on, normals(8, y.size), y.shape)], [x, kernel]) as [Tensor, Tensor];
        return [y, dx, dkernel, rfft(x), irfft(rfft(kernel), L)];
      });
      const values: Float64Array[] = [];
      for (const one of made) {
        values.push(await one.exactData());
        one.dispose();
      }
      return values.map(({ buffer }) => Buffer.from(buffer as ArrayBuffer));
    };
    const first = await run(oneThread());
    for (const again of [await run(backend()), await run(backend())]) {
      again.forEach((bytes, i) => {
        expect(bytes.equals(first[i] ?? Buffer.of()), `result ${i}`).toBe(true);
      });
    }
  });

  test.each([[2, 12, 5], [3, 40, 16], [2, 7, 33]])('a NaN stays in its sequence and feature: B %i, L %i, H %i', async (B, L, H) => {
    const x = normals(9, B * L * H);
    const at = (B - 1) * L * H + 3 * H + 2;
    x[at] = NaN;
    const y = await convolved(x, [B, L, H], normals(10, H * L));
    y.forEach((value, i) => {
      const own = i >= (B - 1) * L * H && i % H === 2;
      if (!own) expect(value, `element ${i}`).not.toBeNaN();
    });
    expect(y[at]).toBeNaN();
    const rows = await valuesOf(() => irfft(rfft(tensor(backend(), x, [B * L, H])), H));
    rows.forEach((value, i) => {
      if (Math.floor(i / H) !== Math.floor(at / H)) expect(value).not.toBeNaN();
    });
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 31, 33, 60, 97, 127, 128, 1000, 1021, 9001, 32768])('real numbers there and back, L = %i', async (L) => {
    const x = normals(L, 3 * L);
    expectClose(await valuesOf(() => irfft(rfft(tensor(backend(), x, [3, L])), L)), x, limit, 'x');
    // The energy of a sequence is that of its spectrum: no conjugate pair is lost.
    const spectrum = await valuesOf(() => rfft(tensor(backend(), x.subarray(0, L), [L])));
    const energy = spectrum.reduce((sum, value, i) => sum + value ** 2 * (i < 2 || (i >> 1) * 2 === L ? 1 : 2), 0) / L;
    expectClose([energy], [x.subarray(0, L).reduce((sum, value) => sum + value ** 2, 0)], limit, 'energy');
  });

  test.each([
    ['a ramp', [1, 2, 3, 4], [10, 0, -2, 2, -2, 0]],
    ['an impulse', [1, 0, 0], [1, 0, 1, 0]],
    ['a late impulse', [0, 1, 0, 0, 0, 0], [1, 0, 0.5, -Math.sqrt(3) / 2, -0.5, -Math.sqrt(3) / 2, -1, 0]],
  ])('the spectrum of %s', async (_, x, expected) => {
    expectClose(await valuesOf(() => rfft(tensor(backend(), x, [x.length]))), expected, limit, 'spectrum');
  });

  test.each([
    [4, [1, 9, 0, 0, 0, 9], [0.25, 0.25, 0.25, 0.25]],
    [2, [1, 5, 3, -5], [2, -1]],
    [1, [4, 7], [4]],
  ])('imaginary parts at the ends of a spectrum count for nothing, L = %i', async (L, spectrum, expected) => {
    expectClose(await valuesOf(() => irfft(tensor(backend(), spectrum, [spectrum.length / 2, 2]), L)), expected, limit, 'y');
  });

  test.each([5, 16, 20])('complex numbers there and back, L = %i', async (L) => {
    const [real, imaginary] = [normals(1, 2 * L * 17), normals(2, 2 * L * 17)];
    for (const part of ['real', 'imaginary'] as const) {
      const back = await valuesOf(() => {
        const there = fft(tensor(backend(), real, [2, L, 17]), tensor(backend(), imaginary, [2, L, 17]));
        return fft(there.real, there.imaginary, { inverse: true })[part];
      });
      expectClose(back, part === 'real' ? real : imaginary, limit, part);
    }
  });
});

describe('arguments', () => {
  const backend = useBackend('reference');
  const zeros = (...shape: number[]) => tensor(backend(), new Float64Array(shape.reduce((a, b) => a * b, 1)), shape);
  const x = () => zeros(2, 6, 3);

  test.each<[string, RegExp, new (problem: string) => Error, () => unknown]>([
    ['x of two axes', /fftConv: x is \[6,3\]; expected \[B,L,H\]/, ShapeError, () => fftConv(zeros(6, 3), zeros(1, 3, 6))],
    ['kernel of two axes', /fftConv: kernel is \[3,6\]; expected \[C,H,K\]/, ShapeError, () => fftConv(x(), zeros(3, 6))],
    ['kernel of other features', /kernel is \[1,4,6\]; expected \[C,H,K\] = \[1,3,6\]/, ShapeError, () => fftConv(x(), zeros(1, 4, 6))],
    ['kernel longer than x', /kernel is \[1,3,7\]; expected from 1 to L = 6 taps.*cut/s, ShapeError, () => fftConv(x(), zeros(1, 3, 7))],
    ['reverse kernel longer than x', /reverseKernel is \[1,3,8\]; expected from 1 to L = 6 taps/, ShapeError, () => fftConv(x(), zeros(1, 3, 6), { reverseKernel: zeros(1, 3, 8) })],
    ['reverse kernel of other channels', /reverseKernel is \[2,3,6\]/, ShapeError, () => fftConv(x(), zeros(1, 3, 6), { reverseKernel: zeros(2, 3, 6) })],
    ['D', /D is \[3\]; expected \[C,H\] = \[1,3\]/, ShapeError, () => fftConv(x(), zeros(1, 3, 6), { D: zeros(3) })],
    ['no positions', /x is \[2,0,3\]; expected no extent of 0/, ArgumentError, () => fftConv(zeros(2, 0, 3), zeros(1, 3, 1))],
    ['no taps', /kernel is \[1,3,0\]; expected no extent of 0/, ArgumentError, () => fftConv(x(), zeros(1, 3, 0))],
    ['integers', /x is i32; expected f32/, DTypeError, () => fftConv(tensor(backend(), [1], [1, 1, 1], 'i32'), zeros(1, 1, 1))],
    ['a spectrum of another length', /irfft: spectrum is \[2,4,2\]; expected \[...,⌊L\/2⌋\+1,2\] = \[2,5,2\]/, ShapeError, () => irfft(zeros(2, 4, 2), 8)],
    ['a spectrum without parts', /irfft: spectrum is \[5\]/, ShapeError, () => irfft(zeros(5), 8)],
    ['length 0', /irfft: length is 0; expected an integer ≥ 1/, ArgumentError, () => irfft(zeros(1, 2), 0)],
    ['length 2.5', /irfft: length is 2.5; expected an integer ≥ 1/, ArgumentError, () => irfft(zeros(2, 2), 2.5)],
    ['a scalar', /rfft: x is \[\]; expected at least one axis/, ArgumentError, () => rfft(zeros())],
    ['no numbers', /rfft: x is \[3,0\]; expected at least one axis, and no extent of 0/, ArgumentError, () => rfft(zeros(3, 0))],
    ['parts of unequal shape', /fft: imaginary is \[2,6,4\]; expected \[B,L,H\] = \[2,6,3\]/, ShapeError, () => fft(x(), zeros(2, 6, 4))],
    ['parts of two axes', /fft: real is \[6,3\]/, ShapeError, () => fft(zeros(6, 3), zeros(6, 3))],
    ['parts without positions', /fft: real is \[2,0,3\]/, ArgumentError, () => fft(zeros(2, 0, 3), zeros(2, 0, 3))],
  ])('%s', (_, message, error, call) => {
    scope(() => {
      expect(call).toThrow(error);
      expect(call).toThrow(message);
    });
  });
});
