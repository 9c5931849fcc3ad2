import { scope, type Tensor } from '../../tensor/index.js';
import { add, affine } from '../elementwise/elementwise.js';
import { exactMatmul } from '../matmul/matmul.js';
import { concatenate, reshape, split } from '../view/view.js';
import type { DiscreteDenseSystem } from './gbt.js';

/** Āˣ·Āˣ − 1 of Āˣ − 1. */
const squared = (change: Tensor): Tensor => scope(() => add(affine(change, 2), exactMatmul(change, change)));

/** The first of the columns. */
const cut = (x: Tensor, columns: number): Tensor => (x.columns === columns ? x : (split(x, [columns, x.columns - columns])[0] as Tensor));

/** The columns B̄, Ā·B̄, … Ā^{count−1}·B̄ [H,N,count], and Ā^doubled − 1, where `doubled` is the least power of two from count on. */
function columns({ change, input }: DiscreteDenseSystem, count: number): { K: Tensor; power: Tensor } {
  return scope(() => {
    let [K, power] = [input, change];
    for (let known = 1; known < count; known *= 2) {
      K = concatenate([K, add(exactMatmul(power, K), K)]);
      power = squared(power);
    }
    return { K: cut(K, count), power };
  });
}

/**
 * The Krylov matrix (B̄, Ā·B̄, … Ā^{L−1}·B̄), by doubling.
 * @returns [H,N,L]
 */
export const krylov = (system: DiscreteDenseSystem, length: number): Tensor => scope(() => columns(system, length).K);

/**
 * The convolution kernel C·(B̄, Ā·B̄, … Ā^{L−1}·B̄) without the Krylov matrix: of l = i·T + j, the rows C·Ā^{i·T} and the columns Ā^j·B̄ are
 * made by doubling, about √L of each, and multiplied.
 * @param C [H,M,N] f32
 * @returns [H,M,L]
 */
export function krylovKernel(C: Tensor, system: DiscreteDenseSystem, length: number): Tensor {
  return scope(() => {
    const [features = 0, channels = 0, states = 0] = C.shape;
    const width = 2 ** Math.ceil(Math.log2(length) / 2);
    const blocks = Math.ceil(length / width);
    const { K, power: first } = columns(system, width);
    // Blocks of rows lie side by side, [H,M,blocks·N].
    let [rows, power] = [C, first];
    for (let known = 1; known < blocks; known *= 2) {
      const stacked = reshape(rows, [features, channels * known, states]);
      rows = concatenate([rows, reshape(add(exactMatmul(stacked, power), stacked), rows.shape)]);
      if (2 * known < blocks) power = squared(power);
    }
    const stacked = reshape(cut(rows, blocks * states), [features, channels * blocks, states]);
    return cut(reshape(exactMatmul(stacked, K), [features, channels, blocks * width]), length);
  });
}
