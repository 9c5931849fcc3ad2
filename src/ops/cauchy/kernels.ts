import { defineKernel, input, optionalOutput, output } from '../../tensor/index.js';
import { accumulate, at, conjugate, inverse, plus, put, scaled, times, type Complex } from '../complex/numbers.js';
import { added } from '../elementwise/added.js';
import { cauchyBackwardGpu, cauchyGpu } from './webgpu.js';

/** cosine: rows are multiplied by cos θ, else by ½·e^{iθ}. nodes: ⌊length/2⌋ + 1. */
const sizes = { rows: 'int', features: 'int', states: 'int', length: 'int', nodes: 'int', cosine: 'flag' } as const;

/**
 * y[r, h, k] = f(θ)·Σ_n v/(i·sin θ − cos θ·a/2) + v̄/(i·sin θ − cos θ·ā/2) with v = v[r, h, n], a = a[h, n] and θ = πk/length for
 * k = 0 … ⌊length/2⌋. v [rows, features, states] and a [features, states] are complex, and so is y [rows, features, nodes].
 */
export const cauchy = defineKernel('cauchy', {
  buffers: { v: input.f32, a: input.f32, y: output.f32 },
  parameters: sizes,
  operations: (p) => p.features * p.states * p.nodes * (20 + 8 * p.rows),
  divisions: ({ features, states, nodes }) => [{ along: 'rows', strides: { v: 2 * features * states, y: 2 * features * nodes } }],
  webgpu: cauchyGpu,
  reference({ v, a, y }, { rows, features, states, length, nodes, cosine }) {
    for (let r = 0; r < rows; r++) {
      for (let h = 0; h < features; h++) {
        for (let k = 0; k < nodes; k++) {
          const { sine, cosine: c, factor } = nodeAt(k, length, cosine);
          let sum: Complex = [0, 0];
          for (let n = 0; n < states; n++) {
            const value = at(v, (r * features + h) * states + n);
            const [near, far] = inverses(at(a, h * states + n), sine, c);
            sum = plus(sum, plus(times(value, near), times(conjugate(value), far)));
          }
          put(y, (r * features + h) * nodes + k, times(factor, sum));
        }
      }
    }
  },
});

/** Gradients by v and a; those whose buffer is left out are not written. */
export const cauchyBackward = defineKernel('cauchy_backward', {
  buffers: { v: input.f32, a: input.f32, dy: input.f32, dv: optionalOutput.f32, da: optionalOutput.f32 },
  parameters: sizes,
  operations: (p) => p.features * p.states * p.nodes * (20 + 24 * p.rows),
  divisions: ({ features, states, nodes }) => [
    { along: 'rows', strides: { v: 2 * features * states, dv: 2 * features * states, dy: 2 * features * nodes }, ...added('da') },
  ],
  webgpu: cauchyBackwardGpu,
  reference({ v, a, dy, dv, da }, { rows, features, states, length, nodes, cosine }) {
    da?.fill(0, 0, 2 * features * states);
    for (let r = 0; r < rows; r++) {
      for (let h = 0; h < features; h++) {
        for (let n = 0; n < states; n++) {
          const [i, j] = [h * states + n, (r * features + h) * states + n];
          const value = at(v, j);
          let [sum, slope]: [Complex, Complex] = [[0, 0], [0, 0]];
          for (let k = 0; k < nodes; k++) {
            const { sine, cosine: c, factor } = nodeAt(k, length, cosine);
            const [near, far] = inverses(at(a, i), sine, c);
            const d = times(at(dy, (r * features + h) * nodes + k), conjugate(factor));
            // The second half is a function of v̄ and ā: its gradients are conjugates.
            sum = plus(sum, plus(times(d, conjugate(near)), conjugate(times(d, conjugate(far)))));
            const first = times(value, times(near, near));
            const second = times(conjugate(value), times(far, far));
            slope = plus(slope, scaled(plus(times(d, conjugate(first)), conjugate(times(d, conjugate(second)))), c / 2));
          }
          if (dv) put(dv, j, sum);
          accumulate(da, i, slope);
        }
      }
    }
  },
});

/** sin θ, cos θ, and what rows are multiplied by. */
function nodeAt(k: number, length: number, weighted: boolean): { sine: number; cosine: number; factor: Complex } {
  const angle = (Math.PI * k) / length;
  // Exactly 0 at a right angle.
  const [sine, cosine] = [Math.sin(angle), Math.sin((Math.PI * (length - 2 * k)) / (2 * length))];
  return { sine, cosine, factor: weighted ? [cosine, 0] : [cosine / 2, sine / 2] };
}

/** 1/(i·sin θ − cos θ·a/2), and the same of ā. */
function inverses([re, im]: Complex, sine: number, cosine: number): [near: Complex, far: Complex] {
  const half = cosine / 2;
  return [inverse([-half * re, sine - half * im]), inverse([-half * re, sine + half * im])];
}
