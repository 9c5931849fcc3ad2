import type { GpuKernel } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';

/** sin and cos of WGSL may be wrong in the fourth digit: these are series over an eighth of a turn, to the last bit but one. */
export const fftTableGpu: GpuKernel<'table', 'count' | 'denominator' | 'squared'> = ({ parameters: { count, squared } }) => ({
  dispatches: [
    perElement({
      variant: squared ? 'squared' : 'plain',
      count,
      buffers: ['table'],
      functions: `
        // a·b modulo p.denominator, which is below 2³⁰, of numbers below it.
        fn product(a: u32, b: u32) -> u32 {
          var sum = 0u;
          var term = a;
          for (var rest = b; rest > 0u; rest >>= 1u) {
            if ((rest & 1u) == 1u) { sum = (sum + term) % p.denominator; }
            term = (2u * term) % p.denominator;
          }
          return sum;
        }`,
      body: `
        let turns = ${squared ? 'product(i % p.denominator, i % p.denominator)' : 'i % p.denominator'};
        // An eighth of a turn and what is left of it, without a number of 8·denominator.
        var eighth = 0u;
        var rest = turns;
        for (var bit = 0u; bit < 3u; bit++) {
          eighth *= 2u;
          if (rest >= p.denominator - rest) { rest -= p.denominator - rest; eighth++; } else { rest *= 2u; }
        }
        if ((eighth & 1u) == 1u) { rest = p.denominator - rest; }
        let x = 0.78539816339744831 * (f32(rest) / f32(p.denominator));
        let y = x * x;
        let sine = x + x * y * (-0.16666667 + y * (0.0083333333 + y * (-0.00019841270 + y * 2.7557319e-6)));
        let cosine = 1.0 + y * (-0.5 + y * (0.041666667 + y * (-0.0013888889 + y * (2.4801587e-5 + y * -2.7557319e-7))));
        let steep = ((eighth + 1u) / 2u) % 2u == 1u;
        let re = select(cosine, sine, steep);
        let im = select(sine, cosine, steep);
        table[p.table_at + 2u * i] = select(re, -re, eighth >= 2u && eighth < 6u);
        table[p.table_at + 2u * i + 1u] = select(im, -im, eighth < 4u);`,
    }),
  ],
});
