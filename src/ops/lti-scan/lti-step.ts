import { empty, expectShape, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import { contiguous } from '../view/view.js';
import { checkSystem, systemOperands, type LinearSystem } from './arguments.js';
import * as kernels from './kernels.js';

/**
 * One position of `ltiScan` for every sequence of a batch, for decoding: moves the state in place and gives y.
 *
 * Not differentiable, for the state it would need is overwritten: under a tape it is an error to ask for a gradient through y or the state.
 * @param state complex [B,H,N,2] f32, dense; overwritten
 * @param u input [B,H] f32
 * @returns y [B,C·H]
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 */
export function ltiStep(state: Tensor, u: Tensor, system: LinearSystem): Tensor<'f32'> {
  const name = 'ltiStep';
  return operation(name, { state: [state, 'f32'], u: [u, 'f32'], ...systemOperands(system) }, () => {
    const { batch, features, states, channels, rank } = checkSystem(name, u, system, 'B');
    expectShape(name, 'state', state.shape, [batch, features, states, 2], '[B,H,N,2]');
    if (!state.dense) {
      const got = `a tensor with ${state.pitch} elements from row to row of ${state.columns}`;
      throw new ArgumentError({ operation: name, argument: 'state', expected: 'a dense tensor, to be moved in place', got });
    }
    const y = empty(u.backend, [batch, channels * features], 'f32');
    const dense = (tensor: Tensor | null | undefined) => (tensor ? contiguous(tensor) : null);
    const own = {
      ...{ change: contiguous(system.change), input: contiguous(system.input), C: contiguous(system.C), D: dense(system.D) },
      ...{ left: dense(system.left), right: dense(system.right) },
    };
    launch(kernels.ltiStep, { state, u, ...own, y }, { batch, features, states, channels, rank, uPitch: u.pitch });
    record({
      operation: name,
      inputs: [state, u, own.change, own.input, own.C, own.D, own.left, own.right],
      outputs: [y, state],
      saved: {},
      backward() {
        throw new ArgumentError(`${name}: is not differentiable. Hint: ltiScan with L = 1 is`);
      },
    });
    return y;
  });
}
