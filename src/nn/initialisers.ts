import type { Random } from '../util/random.js';
import { sizeOf, type Shape } from '../tensor/index.js';

/** Makes the first values of a parameter, row-major. */
export type Initialiser = (shape: Shape, random: Random) => Float32Array;

const fill = (shape: Shape, next: (i: number) => number) => Float32Array.from({ length: sizeOf(shape) }, (_, i) => next(i));

/** The same value everywhere. */
export const constant =
  (value: number): Initialiser =>
  (shape) =>
    fill(shape, () => value);

/** Normal with mean 0. */
export const normal =
  (deviation: number): Initialiser =>
  (shape, random) =>
    fill(shape, () => deviation * random.normal());

/** Uniform in [−bound, bound). */
export const uniform =
  (bound: number): Initialiser =>
  (shape, random) =>
    fill(shape, () => bound * (2 * random.uniform() - 1));

/** Uniform in ±gain/√fanIn: PyTorch's default for the weights and biases of linear and convolution layers. */
export const fanIn = (size: number, gain = 1): Initialiser => uniform(gain / Math.sqrt(size));

/** Normal with mean 0 whose values beyond ±bound are drawn again. */
export const truncatedNormal =
  (deviation: number, bound: number): Initialiser =>
  (shape, random) =>
    fill(shape, () => {
      for (;;) {
        const value = deviation * random.normal();
        if (Math.abs(value) <= bound) return value;
      }
    });
