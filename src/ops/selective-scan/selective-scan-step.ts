import { ArgumentError } from '../../util/errors.js';
import { empty, expectShape, launch, operation, record, scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import { checkScanOperands, scanOperands, type ScanOptions } from './arguments.js';
import * as kernels from './kernels.js';
import { scaledByTime } from './steps.js';

/**
 * One step of `selectiveScan` for every sequence of a batch, for decoding: moves the state in place and gives y.
 *
 * h ← exp(Δ·A)·h + Δ·B·u, y = (Σₙ C·h + D·u)·silu(z).
 *
 * Not differentiable, for the state it would need is overwritten: under a tape it is an error to ask for a gradient through
 * y or the state.
 *
 * @param state [B,E,N] f32, dense; overwritten
 * @param u input [B,E] f32; u, delta, B, C and z may be f16 where the backend has it
 * @param delta step sizes before bias and softplus [B,E] f32
 * @param A decay rates [E,N] f32
 * @param B input weights [B,N] f32
 * @param C output weights [B,N] f32
 * @param options D, z [B,E], deltaBias, deltaSoftplus, steps, discretization
 * @returns y [B,E], of u's dtype
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: as `selectiveScan`; the recurrence is the paper's section 3.3.1 taken one token at a time.
 */
export function selectiveScanStep(
  state: Tensor,
  u: Tensor,
  delta: Tensor,
  A: Tensor,
  B: Tensor,
  C: Tensor,
  options: ScanOptions = {},
): Tensor<FloatDType> {
  const name = 'selectiveScanStep';
  const { D = null, z = null, deltaBias = null, deltaSoftplus = false, discretization = 'euler', steps } = options;
  if (steps) {
    return scope(() => {
      const scaled = scaledByTime(name, delta, steps, options, '[B]');
      return selectiveScanStep(state, u, scaled.delta, A, B, C, scaled.options);
    });
  }
  return operation(name, { state: [state, 'f32'], ...scanOperands({ u, delta, A, B, C }, options) }, () => {
    const { batch, channels, stateSize } = checkScanOperands(name, { u, delta, A, B, C }, options, 'B');
    expectShape(name, 'state', state.shape, [batch, channels, stateSize], '[B,E,N]');
    if (!state.dense) {
      throw new ArgumentError({
        operation: name,
        argument: 'state',
        expected: 'a dense tensor, to be moved in place',
        got: `a tensor with ${state.pitch} elements from row to row of ${state.columns}`,
      });
    }
    const y = empty(u.backend, u.shape, u.dtype as FloatDType);
    const denseA = contiguous(A);
    launch(
      kernels.selectiveScanStep,
      { state, u, delta, A: denseA, B, C, D, z, deltaBias, y },
      {
        ...{ batch, channels, stateSize },
        ...{ uPitch: u.pitch, deltaPitch: delta.pitch, zPitch: z?.pitch ?? 0, bPitch: B.pitch, cPitch: C.pitch },
        ...{ softplus: deltaSoftplus, hold: discretization === 'zoh' },
      },
    );
    record({
      operation: name,
      inputs: [state, u, delta, A, B, C, D, z, deltaBias],
      outputs: [y, state],
      saved: {},
      backward() {
        throw new ArgumentError(`${name}: is not differentiable. Hint: selectiveScan with L = 1 is`);
      },
    });
    return y;
  });
}
