import { ArgumentError, ShapeError } from '../../util/errors.js';
import { empty, expectRank, expectShape, formatShape, launch, operation, record, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { fftConvBackward, fftConv as forward } from './kernels.js';
import { convPlan } from './plan.js';
import { rootsOfUnity } from './tables.js';

/** Options of `fftConv`. */
export interface FftConvOptions {
  /** Skip weight [C,H] f32: adds D·x to y. */
  readonly D?: Tensor | null | undefined;
  /** [C,H,K′] f32, a filter over the future: tap j sees position t + 1 + j. K′ need not be K. */
  readonly reverseKernel?: Tensor | null | undefined;
}

/**
 * Convolution along the sequence with filters as long as the sequence, through fast Fourier transforms: O(L log L).
 *
 * y[b, t, c·H + h] = Σⱼ kernel[c, h, j]·x[b, t−j, h] + D[c, h]·x[b, t, h] + Σⱼ reverseKernel[c, h, j]·x[b, t+1+j, h]
 *
 * Positions outside of the sequence count as zeros. Every feature has C filters, one a channel, and its results lie channel after channel.
 * Differentiable in x, kernel, D and reverseKernel.
 *
 * @param x [B,L,H] f32, or f16 where the backend has it (then y too); rows may have gaps
 * @param kernel [C,H,K] f32, 1 ≤ K ≤ L: taps from L on would meet no input
 * @returns [B,L,C·H]
 * @throws ShapeError, ArgumentError
 *
 * Source: `FFTConv` of S4 (Gu, Goel & Ré 2021; state-spaces/s4), the reverse filter as in its bidirectional option.
 */
export function fftConv(x: Tensor, kernel: Tensor, options: FftConvOptions = {}): Tensor<FloatDType> {
  const { D = null, reverseKernel = null } = options;
  const operands: Record<string, Operand> = { x: [x, 'float'], kernel: [kernel, 'f32'], D: [D, 'f32?'], reverseKernel: [reverseKernel, 'f32?'] };
  return operation('fftConv', operands, () => {
    expectRank('fftConv', 'x', x.shape, 3, '[B,L,H]');
    expectRank('fftConv', 'kernel', kernel.shape, 3, '[C,H,K]');
    const [batch = 0, length = 0, features = 0] = x.shape;
    const [channels = 0] = kernel.shape;
    for (const [argument, tensor] of Object.entries({ x, kernel })) {
      if (tensor.size === 0) throw new ArgumentError({ operation: 'fftConv', argument, expected: 'no extent of 0', got: formatShape(tensor.shape) });
    }
    const tapsOf = (argument: string, filter: Tensor, symbols: string): number => {
      expectShape('fftConv', argument, filter.shape, [channels, features, filter.columns], symbols, 'H is the last extent of x');
      if (filter.columns >= 1 && filter.columns <= length) return filter.columns;
      const expected = `from 1 to L = ${length} taps`;
      const hint = 'cut the filter: later taps meet no input';
      throw new ShapeError({ operation: 'fftConv', argument, expected, got: formatShape(filter.shape), hint });
    };
    const taps = tapsOf('kernel', kernel, '[C,H,K]');
    const reverseTaps = reverseKernel ? tapsOf('reverseKernel', reverseKernel, '[C,H,K′]') : 0;
    if (D) expectShape('fftConv', 'D', D.shape, [channels, features], '[C,H]');
    const { backend } = x;
    const { points, areas, spans, forwardSize, backwardSize } = convPlan({ batch, length, channels, features, taps, reverseTaps });
    const parameters = {
      ...{ batch, length, channels, features, taps, reverseTaps, xPitch: x.pitch, kernelPitch: kernel.pitch },
      ...{ skipPitch: D?.pitch ?? 0, reversePitch: reverseKernel?.pitch ?? 0, points, areas },
    };
    const y = empty(backend, [batch, length, channels * features], x.dtype as FloatDType);
    const table = rootsOfUnity(backend, points, points);
    launch(forward, { x, kernel, D, reverseKernel, table, y, work: empty(backend, [forwardSize]) }, parameters);
    record({
      operation: 'fftConv',
      inputs: [x, kernel, D, reverseKernel],
      outputs: [y],
      saved: { x, kernel, D, reverseKernel },
      backward({ cotangents: [dy], saved, needed }) {
        if (!dy) return [null, null, null, null];
        const wanted = (index: number, shape: readonly number[]) => (needed[index] ? empty(backend, shape) : null);
        const dx = needed[0] ? empty(backend, [batch, length, features], saved.x.dtype) : null;
        const dkernel = wanted(1, [channels, features, taps]);
        const dD = wanted(2, [channels, features]);
        const dreverseKernel = wanted(3, [channels, features, reverseTaps]);
        const table = rootsOfUnity(backend, points, points);
        const work = empty(backend, [backwardSize]);
        launch(
          fftConvBackward,
          { ...saved, dy, table, dx, dkernel, dD, dreverseKernel, work },
          { ...parameters, dyPitch: dy.pitch, spans },
        );
        return [dx, dkernel, dD, dreverseKernel];
      },
    });
    return y;
  });
}
