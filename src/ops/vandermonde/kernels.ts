import { defineKernel, input, optionalOutput, output } from '../../tensor/index.js';
import { accumulate, at, conjugate, exponential, inverse, plus, put, scaled, times, type Complex } from '../complex/numbers.js';
import { added } from '../elementwise/added.js';
import { vandermondeBackwardGpu, vandermondeGpu } from './webgpu.js';

const sizes = { rows: 'int', features: 'int', states: 'int', length: 'int', bilinear: 'flag' } as const;

interface Sizes {
  readonly rows: number;
  readonly features: number;
  readonly states: number;
  readonly length: number;
}

/**
 * y[r, h, l] = Re Σ_n w[r, h, n]·Ā[h, n]ˡ, l from 0, with Ā = eᵃ, or (1 + a/2)/(1 − a/2) with `bilinear`. w [rows, features, states] and
 * a [features, states] are complex, y [rows, features, length].
 */
export const vandermonde = defineKernel('vandermonde', {
  buffers: { w: input.f32, a: input.f32, y: output.f32 },
  parameters: sizes,
  operations: (p) => p.features * p.states * p.length * (6 + 4 * p.rows),
  divisions: ({ features, states, length }) => [{ along: 'rows', strides: { w: 2 * features * states, y: features * length } }],
  webgpu: vandermondeGpu,
  reference({ w, a, y }, { rows, features, states, length, bilinear }) {
    y.fill(0, 0, rows * features * length);
    for (let h = 0; h < features; h++) {
      for (let n = 0; n < states; n++) {
        const base = decay(at(a, h * states + n), bilinear);
        for (let r = 0; r < rows; r++) {
          let value = at(w, (r * features + h) * states + n);
          for (let l = 0; l < length; l++, value = times(value, base)) {
            const i = (r * features + h) * length + l;
            y[i] = (y[i] ?? NaN) + value[0];
          }
        }
      }
    }
  },
});

/** Gradients by w and a; those whose buffer is left out are not written. */
export const vandermondeBackward = defineKernel('vandermonde_backward', {
  buffers: { w: input.f32, a: input.f32, dy: input.f32, dw: optionalOutput.f32, da: optionalOutput.f32 },
  parameters: sizes,
  operations: (p: Sizes) => p.features * p.states * p.length * (6 + 8 * p.rows),
  divisions: ({ features, states, length }) => [
    { along: 'rows', strides: { w: 2 * features * states, dy: features * length, dw: 2 * features * states }, ...added('da') },
  ],
  webgpu: vandermondeBackwardGpu,
  reference({ w, a, dy, dw, da }, { rows, features, states, length, bilinear }) {
    da?.fill(0, 0, 2 * features * states);
    for (let h = 0; h < features; h++) {
      for (let n = 0; n < states; n++) {
        const i = h * states + n;
        const z = at(a, i);
        const base = decay(z, bilinear);
        // d ln Ā / da
        const slope: Complex = bilinear ? inverse(plus([1, 0], scaled(times(z, z), -0.25))) : [1, 0];
        for (let r = 0; r < rows; r++) {
          const j = (r * features + h) * states + n;
          let [sum, sumByPlace, power]: [Complex, Complex, Complex] = [[0, 0], [0, 0], [1, 0]];
          for (let l = 0; l < length; l++, power = times(power, base)) {
            const term = scaled(power, dy[(r * features + h) * length + l] ?? NaN);
            sum = plus(sum, term);
            sumByPlace = plus(sumByPlace, scaled(term, l));
          }
          if (dw) put(dw, j, conjugate(sum));
          accumulate(da, i, conjugate(times(times(at(w, j), sumByPlace), slope)));
        }
      }
    }
  },
});

/** Ā */
function decay(a: Complex, bilinear: boolean): Complex {
  if (!bilinear) return exponential(a);
  return times([1 + a[0] / 2, a[1] / 2], inverse([1 - a[0] / 2, -a[1] / 2]));
}
