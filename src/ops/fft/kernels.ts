import { defineKernel, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { convolve, eachFrequency, turn, type ConvExtents } from './reference.js';
import { fftConvBackwardGpu, fftConvGpu, fftGpu, fftTableGpu, irfftGpu, rfftGpu } from './webgpu/index.js';

/** table[k] = e^{−2πi·k/denominator}, with k² in place of k where `squared`; k = 0 … count − 1, as pairs of numbers. */
export const fftTable = defineKernel('fft_table', {
  buffers: { table: output.f32 },
  parameters: { count: 'int', denominator: 'int', squared: 'flag' },
  operations: (p) => 2 * p.count,
  webgpu: fftTableGpu,
  reference({ table }, { count, denominator, squared }) {
    for (let k = 0; k < count; k++) {
      const { cos, sin } = turn(squared ? k * k : k, denominator);
      table[2 * k] = cos;
      table[2 * k + 1] = -sin;
    }
  },
});

/** 5·N·log₂N, as the literature counts them. */
const transform = (points: number): number => 5 * points * Math.log2(Math.max(points, 2));

const convBuffers = {
  x: input.float,
  kernel: input.f32,
  D: optionalInput.f32,
  reverseKernel: optionalInput.f32,
  table: input.f32,
} as const;

const convParameters = {
  batch: 'int',
  length: 'int',
  channels: 'int',
  features: 'int',
  taps: 'int',
  reverseTaps: 'int',
  xPitch: 'int',
  kernelPitch: 'int',
  skipPitch: 'int',
  reversePitch: 'int',
  points: 'int',
  areas: 'int',
} as const;

/**
 * y[b, t, c·features + h] = Σ_{j < taps} kernel[c, h, j]·x[b, t−j, h] + D[c, h]·x[b, t, h] + Σ_{j < reverseTaps} reverseKernel[c, h, j]·x[b, t+1+j, h].
 * `table` is that of `points` numbers, `work` memory of the kernel's own (`convPlan`).
 */
export const fftConv = defineKernel('fft_conv', {
  buffers: { ...convBuffers, y: output.float, work: output.f32 },
  parameters: convParameters,
  operations: (p) =>
    p.features * ((p.channels + p.batch * (1 + p.channels)) * transform(p.points) + 28 * p.batch * p.channels * p.points),
  divisions: ({ length, xPitch, channels, features }) => [
    { along: 'batch', strides: { x: length * xPitch, y: length * channels * features } },
  ],
  webgpu: fftConvGpu,
  reference({ x, kernel, D, reverseKernel, y }, p) {
    convolve(p, (b, t, c, h, s, from, j) => {
      const at = (b * p.length + t) * p.channels * p.features + c * p.features + h;
      if (from === 'start') y[at] = 0;
      else y[at] = (y[at] ?? NaN) + valueOf({ kernel, D, reverseKernel }, p, c, h, from, j) * (x[(b * p.length + s) * p.xPitch + h] ?? NaN);
    });
  },
});

/**
 * The gradient of `fftConv`: dx by the filters turned around, and dkernel[c, h, j] = Σ dy[b, t, c·features + h]·x[b, t−j, h], dD and
 * dreverseKernel alike, summed over the batch in `spans` parts.
 */
export const fftConvBackward = defineKernel('fft_conv_backward', {
  buffers: {
    ...convBuffers,
    dy: input.float,
    dx: optionalOutput.float,
    dkernel: optionalOutput.f32,
    dD: optionalOutput.f32,
    dreverseKernel: optionalOutput.f32,
    work: output.f32,
  },
  parameters: { ...convParameters, dyPitch: 'int', spans: 'int' },
  operations: (p) =>
    p.features * ((2 * p.channels + p.batch * (2 + p.channels)) * transform(p.points) + 56 * p.batch * p.channels * p.points),
  divisions: ({ length, xPitch, features, dyPitch }) => [
    {
      along: 'batch',
      strides: { x: length * xPitch, dy: length * dyPitch, dx: length * features },
      ...added('dkernel', 'dD', 'dreverseKernel'),
    },
  ],
  webgpu: fftConvBackwardGpu,
  reference({ x, kernel, D, reverseKernel, dy, dx, dkernel, dD, dreverseKernel }, p) {
    for (const gradient of [dx, dkernel, dD, dreverseKernel]) gradient?.fill(0);
    const add = (to: Float64Array | null, at: number, value: number) => {
      if (to) to[at] = (to[at] ?? NaN) + value;
    };
    convolve(p, (b, t, c, h, s, from, j) => {
      if (from === 'start') return;
      const dyAt = dy[(b * p.length + t) * p.dyPitch + c * p.features + h] ?? NaN;
      add(dx, (b * p.length + s) * p.features + h, dyAt * valueOf({ kernel, D, reverseKernel }, p, c, h, from, j));
      const byFilter = dyAt * (x[(b * p.length + s) * p.xPitch + h] ?? NaN);
      const filter = c * p.features + h;
      if (from === 'kernel') add(dkernel, filter * p.taps + j, byFilter);
      else if (from === 'D') add(dD, filter, byFilter);
      else add(dreverseKernel, filter * p.reverseTaps + j, byFilter);
    });
  },
});

const transformParameters = { rows: 'int', length: 'int', points: 'int', size: 'int', areas: 'int' } as const;
const weights = { interior: 'float', ends: 'float' } as const;

/**
 * spectrum[r, k] = w_k·Σₜ x[r, t]·e^{−2πikt/length}, k = 0 … ⌊length/2⌋, as pairs of numbers; w_k is `ends` for k = 0 and 2k = length,
 * `interior` otherwise. Tables: `table` of `size`, `chirp` (squares over 2·points) where size is not points, `half` (over length) where
 * length is even.
 */
export const rfft = defineKernel('rfft', {
  buffers: { x: input.f32, table: input.f32, chirp: optionalInput.f32, half: optionalInput.f32, spectrum: output.f32, work: output.f32 },
  parameters: { ...transformParameters, xPitch: 'int', ...weights },
  operations: (p) => p.rows * transform(p.points),
  divisions: ({ length, xPitch }) => [{ along: 'rows', strides: { x: xPitch, spectrum: 2 * (Math.floor(length / 2) + 1) } }],
  webgpu: rfftGpu,
  reference({ x, spectrum }, p) {
    eachFrequency(p, (r, k, weight, at) => {
      let [re, im] = [0, 0];
      for (let t = 0; t < p.length; t++) {
        const { cos, sin } = turn(k * t, p.length);
        const value = x[r * p.xPitch + t] ?? NaN;
        re += value * cos;
        im -= value * sin;
      }
      spectrum[at] = weight * re;
      spectrum[at + 1] = weight * im;
    });
  },
});

/** y[r, t] = Σₖ w_k·Re(spectrum[r, k]·e^{2πikt/length}); w_k, k and the tables as in `rfft`. Imaginary parts at the ends count for nothing. */
export const irfft = defineKernel('irfft', {
  buffers: { spectrum: input.f32, table: input.f32, chirp: optionalInput.f32, half: optionalInput.f32, y: output.f32, work: output.f32 },
  parameters: { ...transformParameters, ...weights },
  operations: (p) => p.rows * transform(p.points),
  divisions: ({ length }) => [{ along: 'rows', strides: { spectrum: 2 * (Math.floor(length / 2) + 1), y: length } }],
  webgpu: irfftGpu,
  reference({ spectrum, y }, p) {
    y.fill(0);
    eachFrequency(p, (r, k, weight, at, isEnd) => {
      const re = weight * (spectrum[at] ?? NaN);
      const im = isEnd ? 0 : weight * (spectrum[at + 1] ?? NaN);
      for (let t = 0; t < p.length; t++) {
        const { cos, sin } = turn(k * t, p.length);
        y[r * p.length + t] = (y[r * p.length + t] ?? NaN) + re * cos - im * sin;
      }
    });
  },
});

/**
 * The complex transform along the sequence: out[b, k, h] = scale·Σₜ (real + i·imaginary)[b, t, h]·e^{∓2πikt/length}, + where `inverse`. Tables as in `rfft`,
 * with points = length.
 */
export const fft = defineKernel('fft', {
  buffers: {
    real: input.f32,
    imaginary: input.f32,
    table: input.f32,
    chirp: optionalInput.f32,
    realOut: output.f32,
    imaginaryOut: output.f32,
    work: output.f32,
  },
  parameters: {
    batch: 'int',
    length: 'int',
    features: 'int',
    size: 'int',
    areas: 'int',
    realPitch: 'int',
    imaginaryPitch: 'int',
    inverse: 'flag',
    scale: 'float',
  },
  operations: (p) => p.batch * p.features * transform(p.length),
  divisions: ({ length, features, realPitch, imaginaryPitch }) => [
    {
      along: 'batch',
      strides: {
        ...{ real: length * realPitch, imaginary: length * imaginaryPitch },
        ...{ realOut: length * features, imaginaryOut: length * features },
      },
    },
  ],
  webgpu: fftGpu,
  reference({ real, imaginary, realOut, imaginaryOut }, p) {
    for (let b = 0; b < p.batch; b++) {
      for (let k = 0; k < p.length; k++) {
        for (let h = 0; h < p.features; h++) {
          let [re, im] = [0, 0];
          for (let t = 0; t < p.length; t++) {
            const angle = turn(k * t, p.length);
            const sin = p.inverse ? angle.sin : -angle.sin;
            const row = b * p.length + t;
            const [a, i] = [real[row * p.realPitch + h] ?? NaN, imaginary[row * p.imaginaryPitch + h] ?? NaN];
            re += a * angle.cos - i * sin;
            im += a * sin + i * angle.cos;
          }
          const at = (b * p.length + k) * p.features + h;
          realOut[at] = p.scale * re;
          imaginaryOut[at] = p.scale * im;
        }
      }
    }
  },
});

function valueOf(
  { kernel, D, reverseKernel }: { kernel: Float64Array; D: Float64Array | null; reverseKernel: Float64Array | null },
  p: ConvExtents,
  c: number,
  h: number,
  from: 'kernel' | 'D' | 'reverseKernel',
  j: number,
): number {
  if (from === 'kernel') return kernel[(c * p.features + h) * p.kernelPitch + j] ?? NaN;
  if (from === 'D') return D?.[c * p.skipPitch + h] ?? 0;
  return reverseKernel?.[(c * p.features + h) * p.reversePitch + j] ?? NaN;
}
