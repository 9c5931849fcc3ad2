import { scope, tensor, type Tensor } from '../../tensor/index.js';
import { zeros } from '../create.js';
import { add, affine, multiply } from '../elementwise/elementwise.js';
import { solve } from '../solve/solve.js';
import { concatenate, reshape, split } from '../view/view.js';

/** x′ = A·x + B·u with real dense matrices: one system for each feature, or one for all. */
export interface DenseSystem {
  /** [H,N,N] or [1,N,N] f32 */
  readonly A: Tensor;
  /** [H,N] or [1,N] f32 */
  readonly B: Tensor;
}

/** A system made discrete, for each feature. */
export interface DiscreteDenseSystem {
  /** Ā − 1, [H,N,N]: a float32 can say this of slow states, but not Ā. */
  readonly change: Tensor;
  /** B̄, [H,N,1] */
  readonly input: Tensor;
}

/** Values of one feature for each of `features`: [H,size]. @param one [H,…], or [1,…] */
export const perFeature = (one: Tensor, features: number): Tensor =>
  scope(() => {
    const [count = 0] = one.shape;
    const size = one.size / count;
    return count === features ? reshape(one, [features, size]) : add(zeros(one.backend, [features, size]), reshape(one, [size]));
  });

/** 1 in the diagonal that is `above` the main one, [N·N]. */
export const diagonalOnes = (like: Tensor, size: number, above = 0): Tensor =>
  tensor(like.backend, () => Float32Array.from({ length: size * size }, (_, i) => (i % size === Math.floor(i / size) + above ? 1 : 0)), [size * size]);

/**
 * The generalised bilinear transform:
 *
 *     Ā = (1 − αΔA)⁻¹·(1 + (1 − α)ΔA)      B̄ = (1 − αΔA)⁻¹·ΔB
 *
 * α is 0 for Euler's forward rule, ½ for the trapezoidal (bilinear) rule, 1 for the backward rule. Since Ā − 1 = (1 − αΔA)⁻¹·ΔA, one solve
 * gives both.
 * @param dt Δ, [H] f32
 *
 * Source: Gu et al. 2021, "Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space Layers", section 2.
 */
export function gbt({ A, B }: DenseSystem, dt: Tensor, alpha = 0.5): DiscreteDenseSystem {
  return scope(() => {
    const [features = 0] = dt.shape;
    const size = A.columns;
    const steps = reshape(dt, [features, 1]);
    const rates = multiply(perFeature(A, features), steps);
    const input = reshape(multiply(perFeature(B, features), steps), [features, size, 1]);
    const square = [features, size, size];
    if (alpha === 0) return { change: reshape(rates, square), input };
    const matrix = add(affine(rates, -alpha), diagonalOnes(A, size));
    const solved = solve(reshape(matrix, square), concatenate([reshape(rates, square), input]));
    const [change, discreteInput] = split(solved, [size, 1]) as [Tensor, Tensor];
    return { change, input: discreteInput };
  });
}
