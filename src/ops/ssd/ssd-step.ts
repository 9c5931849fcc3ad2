import { ArgumentError } from '../../util/errors.js';
import { empty, expectShape, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import { checkSsdOperands, ssdOperands, type SsdStepOptions } from './arguments.js';
import * as kernels from './kernels.js';

/**
 * One position of `ssd` for every sequence of a batch, for decoding: moves the state in place and gives y.
 *
 *     S ← exp(Δ·A)·S + Δ·x·Bᵀ      y = (S·C + D·x)·silu(z)
 *
 * Not differentiable, for the state it would need is overwritten: under a tape it is an error to ask for a gradient through
 * y or the state.
 *
 * @param state [B,H,P,N] f32, dense; overwritten
 * @param x input [B,H·P] f32; x, delta, B, C and z may be f16 where the backend has it
 * @param delta step sizes before bias and softplus [B,H]
 * @param A decay rates [H] f32
 * @param B input weights [B,G·N]
 * @param C output weights [B,G·N]
 * @returns y [B,H·P], of x's dtype
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: as `ssd`.
 */
export function ssdStep(state: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, options: SsdStepOptions = {}): Tensor<FloatDType> {
  const name = 'ssdStep';
  const { D = null, z = null, deltaBias = null } = options;
  return operation(name, { state: [state, 'f32'], ...ssdOperands({ x, delta, A, B, C }, options) }, () => {
    const { sizes, parameters } = checkSsdOperands(name, { x, delta, A, B, C }, options, 'B');
    const { batch, heads, headSize, groups, stateSize } = sizes;
    expectShape(name, 'state', state.shape, [batch, heads, headSize, stateSize], '[B,H,P,N]');
    if (!state.dense) {
      throw new ArgumentError({
        operation: name,
        argument: 'state',
        expected: 'a dense tensor, to be moved in place',
        got: `a tensor with ${state.pitch} elements from row to row of ${state.columns}`,
      });
    }
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    const denseA = contiguous(A);
    launch(
      kernels.ssdStep,
      { state, x, delta, A: denseA, B, C, D, z, deltaBias, y },
      { batch, heads, headSize, groups, stateSize, ...parameters },
    );
    record({
      operation: name,
      inputs: [state, x, delta, A, B, C, D, z, deltaBias],
      outputs: [y, state],
      saved: {},
      backward() {
        throw new ArgumentError(`${name}: is not differentiable. Hint: ssd with L = 1 is`);
      },
    });
    return y;
  });
}
