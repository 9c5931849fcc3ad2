import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { fft } from './fft.js';
import { fftConv } from './fft-conv.js';
import { irfft, rfft } from './real-fft.js';

interface Setting {
  readonly B?: number;
  readonly L: number;
  readonly H?: number;
  readonly C?: number;
  readonly K?: number;
  readonly D?: boolean;
  /** Taps of a reverse filter. */
  readonly reverse?: number;
  readonly by?: readonly string[];
}

function conv({ B = 1, L, H = 2, C = 1, K = L, D = false, reverse = 0, by }: Setting): OperationCase {
  const parts = [`B ${B}, L ${L}, H ${H}, C ${C}, K ${K}`, ...(D ? ['D'] : []), ...(reverse > 0 ? [`reverse ${reverse}`] : [])];
  return {
    name: `convolution, ${parts.join(', ')}${by ? `, gradient of ${by.join(', ')}` : ''}`,
    inputs: (random) => ({
      x: normal(random, [B, L, H]),
      kernel: normal(random, [C, H, K]),
      ...(D ? { D: normal(random, [C, H]) } : {}),
      ...(reverse > 0 ? { reverse: normal(random, [C, H, reverse]) } : {}),
    }),
    run: (input) => [
      fftConv(input('x'), input('kernel'), { D: D ? input('D') : null, reverseKernel: reverse > 0 ? input('reverse') : null }),
    ],
    ...(by ? { differentiable: by } : {}),
    reductionLength: B * C * L,
    half: ['x'],
    large: B * L * H * C * K > 20_000,
  };
}

const lengths = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 31, 32, 33, 48, 64, 97, 127, 128, 129];

export const cases: readonly OperationCase[] = [
  ...[1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64].map((L) => conv({ L, D: true, reverse: L })),
  ...[1, 2, 3, 5].map((K) => conv({ L: 11, H: 3, K, D: true, reverse: 6 - K })),
  conv({ B: 2, L: 20, H: 17, C: 2, K: 20, D: true, reverse: 7 }),
  conv({ B: 3, L: 13, H: 5, C: 3, K: 9 }),
  conv({ B: 2, L: 6, H: 37, C: 1, K: 6, D: true }),
  conv({ B: 1, L: 300, H: 3, C: 2, K: 300, D: true, reverse: 300 }),
  conv({ B: 2, L: 257, H: 18, K: 100 }),
  conv({ B: 1, L: 1024, H: 2, K: 1024, D: true }),
  ...['x', 'kernel', 'D', 'reverse'].map((name) => conv({ B: 2, L: 9, H: 3, C: 2, D: true, reverse: 4, by: [name] })),
  {
    name: 'convolution, operands with gaps between their rows, cotangents too',
    inputs: (random) => ({ x: normal(random, [2, 12, 12]), kernel: normal(random, [2, 5, 18]), D: normal(random, [2, 7]) }),
    run(input) {
      const [x] = split(input('x'), [5, 7]) as [Tensor];
      const [, kernel, reverseKernel] = split(input('kernel'), [2, 9, 7]) as [Tensor, Tensor, Tensor];
      const [D] = split(input('D'), [5, 2]) as [Tensor];
      return split(fftConv(x, kernel, { D, reverseKernel }), [4, 6]);
    },
    reductionLength: 48,
    half: ['x'],
  },
  ...lengths.map((L): OperationCase => ({
    name: `real numbers to their spectrum, L ${L}`,
    inputs: (random) => ({ x: normal(random, [2, L]) }),
    run: (input) => [rfft(input('x'))],
    reductionLength: L,
  })),
  ...lengths.map((L): OperationCase => ({
    name: `spectrum to real numbers, L ${L}`,
    inputs: (random) => ({ spectrum: normal(random, [2, Math.floor(L / 2) + 1, 2]) }),
    run: (input) => [irfft(input('spectrum'), L)],
    reductionLength: L,
  })),
  {
    name: 'real numbers there and back, rows with gaps',
    inputs: (random) => ({ x: normal(random, [3, 7, 30]) }),
    run(input) {
      const [, x] = split(input('x'), [4, 26]) as [Tensor, Tensor];
      const spectrum = rfft(x);
      return [spectrum, irfft(spectrum, 26), irfft(spectrum, 27)];
    },
    reductionLength: 27,
  },
  ...[1, 2, 3, 4, 6, 8, 16, 17, 32, 60, 64].flatMap((L) =>
    [false, true].map((inverse): OperationCase => ({
      name: `complex numbers${inverse ? ', inverse' : ''}, L ${L}`,
      inputs: (random) => ({ both: normal(random, [2, L, 7]) }),
      run(input) {
        const [real, imaginary] = split(input('both'), [3, 3, 1]) as [Tensor, Tensor];
        const out = fft(real, imaginary, { inverse });
        return [out.real, out.imaginary];
      },
      reductionLength: L,
    })),
  ),
  {
    name: 'complex numbers, L 512, H 20',
    inputs: (random) => ({ real: normal(random, [1, 512, 20]), imaginary: normal(random, [1, 512, 20]) }),
    run(input) {
      const out = fft(input('real'), input('imaginary'));
      return [out.real];
    },
    reductionLength: 512,
    large: true,
  },
];
