import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { enough } from '../../wgsl/rows.js';
import { wgslTurns } from '../../wgsl/turns.js';
import { digitBase, levels } from './frequencies.js';

export const rotaryGpu: GpuKernel<
  'x' | 'frequencies' | 'positions' | 'y',
  'batch' | 'length' | 'heads' | 'size' | 'rotary' | 'xPitch' | 'backwards' | 'interleaved'
> = ({ parameters, has, dtype }) => {
  const { batch, length, heads, size, rotary, interleaved, backwards } = parameters;
  const half = rotary / 2;
  // A pair of a position, or a number that stays; the heads share its turn as long as that leaves enough invocations.
  const items = half + size - rotary;
  const parts = Math.min(heads, Math.max(1, Math.ceil(enough / Math.max(1, batch * length * items))));
  const each = Math.ceil(heads / parts);
  const type = dtype('y') ?? 'f32';
  const y = 'y[p.y_at + row * p.size';
  const x = 'x[p.x_at + row * p.xPitch';
  return {
    dispatches: [
      perElement({
        variant: `rotary ${interleaved}${backwards}`,
        count: batch * length * parts * items,
        numbers: { half, items, parts, each },
        buffers: ['x', 'frequencies', ...(has('positions') ? ['positions'] : []), 'y'],
        functions: wgslTurns,
        body: `
        let item = i % p.items;
        let part = i / p.items % p.parts;
        let at = i / p.items / p.parts;
        let first_row = at * p.heads + part * p.each;
        let end_row = min(first_row + p.each, (at + 1u) * p.heads);
        if (item >= p.half) {
          let column = item + p.half;
          for (var row = first_row; row < end_row; row++) { ${y} + column] = ${type}(${x} + column]); }
          return;
        }
        var rest = at % p.length${has('positions') ? ' + u32(positions[p.positions_at + at / p.length])' : ''};
        var turn = 0.0;
        for (var level = 0u; level < ${levels}u; level++) {
          let digit = f32(rest % ${digitBase}u);
          rest /= ${digitBase}u;
          let of_unit = p.frequencies_at + 2u * level * p.half + item;
          turn += fraction(digit * frequencies[of_unit]) + digit * frequencies[of_unit + p.half];
        }
        let turned = cosine_and_sine(fraction(turn));
        let cosine = turned.x;
        let sine = ${backwards === 1 ? '-' : ''}turned.y;
        let first = ${interleaved === 1 ? '2u * item' : 'item'};
        let second = ${interleaved === 1 ? '2u * item + 1u' : 'item + p.half'};
        for (var row = first_row; row < end_row; row++) {
          let a = f32(${x} + first]);
          let c = f32(${x} + second]);
          ${y} + first] = ${type}(a * cosine - c * sine);
          ${y} + second] = ${type}(a * sine + c * cosine);
        }`,
      }),
    ],
  };
};
