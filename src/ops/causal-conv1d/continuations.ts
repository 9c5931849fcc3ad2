import { scope, type Tensor } from '../../tensor/index.js';
import { full, zeros } from '../create.js';
import { concatenate } from '../view/view.js';
import { causalConv1d } from './causal-conv1d.js';

/**
 * 1 where the document of the position before goes on, 0 where one starts: a convolution of ones that adds up nothing but the position
 * before has nothing to add there.
 * @param starts [B,L] i32 @returns [B,L,1]
 */
export function continuations(starts: Tensor): Tensor {
  return scope(() => {
    const [batch = 0, length = 0] = starts.shape;
    const { backend } = starts;
    const [ones, first] = [full(backend, [batch, length, 1], 1), full(backend, [batch, 1, 1], 1)];
    const before = concatenate([full(backend, [1, 1], 1), zeros(backend, [1, 1])]);
    return causalConv1d(ones, before, { initialState: first, sequenceStarts: starts, activation: 'none' }).y;
  });
}
