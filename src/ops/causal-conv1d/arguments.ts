import { ArgumentError, ShapeError } from '../../util/errors.js';
import { expectRank, expectShape, formatShape, type Tensor } from '../../tensor/index.js';

/** What is done to the convolution's sums. */
export type ConvActivation = 'silu' | 'none';

/** The kernels' scratch holds a few rows a tap. */
export const mostTaps = 4096;

/** Throws unless weight, bias and activation fit E channels; returns K. */
export function checkFilter(
  operation: string,
  channels: number,
  weight: Tensor,
  bias: Tensor | null,
  activation: string,
): number {
  expectRank(operation, 'weight', weight.shape, 2, '[E,K]');
  expectShape(operation, 'weight', weight.shape, [channels, weight.columns], '[E,K]', 'E is the last extent of x');
  const taps = weight.columns;
  if (taps < 1 || taps > mostTaps) {
    const expected = `[E,K] with K from 1 to ${mostTaps}`;
    throw new ShapeError({ operation, argument: 'weight', expected, got: formatShape(weight.shape) });
  }
  if (bias) expectShape(operation, 'bias', bias.shape, [channels], '[E]', 'E is the last extent of x');
  if (activation !== 'silu' && activation !== 'none') {
    const got = `'${activation}'`;
    throw new ArgumentError({ operation, argument: 'activation', expected: "'silu' or 'none'", got });
  }
  return taps;
}
