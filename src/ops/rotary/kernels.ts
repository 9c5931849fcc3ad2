import { defineKernel, input, optionalInput, output } from '../../tensor/index.js';
import { turnAt } from './frequencies.js';
import { rotaryGpu } from './webgpu.js';

/**
 * Turns pairs of the first `rotary` numbers of each head by an angle that grows with the position: pair i of position t by
 * 2π·turn(t, i), turn as `turnAt` has it, or back by it with `backwards`. Pairs are (i, i + rotary/2), or (2i, 2i + 1) where they are interleaved;
 * the numbers from `rotary` on are copied. Position t of sequence b is positions[b] + t, or t without positions.
 *
 * x [batch, length, heads, size], heads `xPitch` apart; frequencies [levels, 2, rotary/2]; y dense.
 */
export const rotary = defineKernel('rotary', {
  buffers: { x: input.float, frequencies: input.f32, positions: optionalInput.i32, y: output.float },
  parameters: { batch: 'int', length: 'int', heads: 'int', size: 'int', rotary: 'int', xPitch: 'int', backwards: 'flag', interleaved: 'flag' },
  operations: (p) => 3 * p.batch * p.length * p.heads * p.rotary,
  divisions: ({ length, heads, size, xPitch }) => [
    { along: 'batch', strides: { x: length * heads * xPitch, positions: 1, y: length * heads * size } },
  ],
  webgpu: rotaryGpu,
  reference({ x, frequencies, positions, y }, { batch, length, heads, size, rotary: turned, xPitch, backwards, interleaved }) {
    const half = turned / 2;
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < length; t++) {
        const position = (positions?.[b] ?? 0) + t;
        for (let h = 0; h < heads; h++) {
          const row = (b * length + t) * heads + h;
          const [from, to] = [row * xPitch, row * size];
          for (let i = 0; i < half; i++) {
            const angle = (backwards ? -2 : 2) * Math.PI * turnAt(frequencies, half, i, position);
            const [first, second] = interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
            const [a, c] = [x[from + first] ?? NaN, x[from + second] ?? NaN];
            y[to + first] = a * Math.cos(angle) - c * Math.sin(angle);
            y[to + second] = a * Math.sin(angle) + c * Math.cos(angle);
          }
          for (let i = turned; i < size; i++) y[to + i] = x[from + i] ?? NaN;
        }
      }
    }
  },
});
