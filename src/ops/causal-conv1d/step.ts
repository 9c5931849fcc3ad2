import { empty, expectRank, expectShape, launch, operation, type FloatDType, type Tensor } from '../../tensor/index.js';
import { checkFilter, type ConvActivation } from './arguments.js';
import { causalConv1dStep as step } from './kernels.js';

/**
 * One position of `causalConv1d`, for decoding: y as there with `state` before x; then `state` moves on by x, in place. Not
 * recorded: it has no gradient.
 *
 * @param state [B,K−1,E] f32, the inputs before x, oldest first, as `causalConv1d` gives its final state; overwritten
 * @param x [B,E] f32, or f16 where the backend has it (then y too)
 * @param weight [E,K] f32
 * @param options.bias [E] f32
 * @param options.activation default 'none'
 * @returns y [B,E]
 * @throws ShapeError, ArgumentError
 */
export function causalConv1dStep(
  state: Tensor,
  x: Tensor,
  weight: Tensor,
  options: { readonly bias?: Tensor | null | undefined; readonly activation?: ConvActivation | undefined } = {},
): Tensor<FloatDType> {
  const { bias = null, activation = 'none' } = options;
  return operation('causalConv1dStep', { state: [state, 'f32'], x: [x, 'float'], weight: [weight, 'f32'], bias: [bias, 'f32?'] }, () => {
    expectRank('causalConv1dStep', 'x', x.shape, 2, '[B,E]');
    const [batch = 0, channels = 0] = x.shape;
    const taps = checkFilter('causalConv1dStep', channels, weight, bias, activation);
    expectShape('causalConv1dStep', 'state', state.shape, [batch, taps - 1, channels], '[B,K−1,E]');
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    launch(
      step,
      { state, x, weight, bias, y },
      {
        batch,
        channels,
        taps,
        xPitch: x.pitch,
        weightPitch: weight.pitch,
        statePitch: state.pitch,
        silu: activation === 'silu',
      },
    );
    return y;
  });
}
