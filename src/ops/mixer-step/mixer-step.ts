import { empty, expectRank, expectShape, launch, type Tensor } from '../../tensor/index.js';
import { causalConv1dStep } from '../causal-conv1d/step.js';
import { linear } from '../matmul/linear.js';
import { selectiveScanStep } from '../selective-scan/selective-scan-step.js';
import { split } from '../view/view.js';
import * as kernels from './kernels.js';

/** The weights of a mixer between its projections. */
export interface MixerStepWeights {
  /** [E,K] f32 */
  readonly convWeight: Tensor;
  /** [E] f32 */
  readonly convBias: Tensor | null;
  /** [R+2N,E], float or packed */
  readonly xProj: Tensor;
  /** [E,R], float or packed */
  readonly dtProj: Tensor;
  /** [E] f32 */
  readonly dtBias: Tensor;
  /** −exp(A_log), [E,N] f32 */
  readonly A: Tensor;
  /** [E] f32 */
  readonly D: Tensor;
}

/**
 * One position of a Mamba mixer between its projections in and out, for decoding: convolution, selection, scan and gate.
 *
 * u = silu(conv(x)), (dt, B, C) = xProj·u, Δ = softplus(dtProj·dt + dtBias), h ← exp(Δ·A)·h + Δ·B·u, y = (C·h + D·u)·silu(z).
 *
 * Fused where the backend has a kernel for it and the weights are floats; otherwise composed of `causalConv1dStep`, `linear`
 * and `selectiveScanStep`, as the number of launches shows. Not differentiable.
 *
 * @param xz [B,2E] f32 or f16: x, then z
 * @param state conv [B,K−1,E] and ssm [B,E,N], f32, dense; updated in place
 * @returns y [B,E] of xz's dtype
 * @throws ShapeError, DTypeError when the arguments do not fit together
 *
 * Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", algorithm 2 and figure 3, one token at a time.
 */
export function mixerStep(xz: Tensor, state: { readonly conv: Tensor; readonly ssm: Tensor }, weights: MixerStepWeights): Tensor {
  const operation = 'mixerStep';
  expectRank(operation, 'xz', xz.shape, 2, '[B,2E]');
  expectRank(operation, 'convWeight', weights.convWeight.shape, 2, '[E,K]');
  expectRank(operation, 'A', weights.A.shape, 2, '[E,N]');
  const [batch = 0] = xz.shape;
  const { rows: channels, columns: taps } = weights.convWeight;
  const stateSize = weights.A.columns;
  const rank = weights.dtProj.columns;
  expectShape(operation, 'xz', xz.shape, [batch, 2 * channels], '[B,2E]', 'E is the first extent of convWeight');
  expectShape(operation, 'xProj', weights.xProj.shape, [rank + 2 * stateSize, channels], '[R+2N,E]');
  expectShape(operation, 'dtProj', weights.dtProj.shape, [channels, rank], '[E,R]');
  expectShape(operation, 'A', weights.A.shape, [channels, stateSize], '[E,N]');
  expectShape(operation, 'D', weights.D.shape, [channels], '[E]');
  expectShape(operation, 'dtBias', weights.dtBias.shape, [channels], '[E]');
  if (weights.convBias) expectShape(operation, 'convBias', weights.convBias.shape, [channels], '[E]');
  expectShape(operation, 'state.conv', state.conv.shape, [batch, taps - 1, channels], '[B,K−1,E]');
  expectShape(operation, 'state.ssm', state.ssm.shape, [batch, channels, stateSize], '[B,E,N]');
  if (!canFuse(xz, state, weights)) return composed(xz, state, weights);
  const y = empty(xz.backend, [batch, channels], xz.dtype);
  launch(
    kernels.mixerStep,
    { convState: state.conv, ssmState: state.ssm, xz, ...weights, y },
    { batch, channels, taps, rank, stateSize, xzPitch: xz.pitch },
  );
  return y;
}

/** Every sequence reads the weights anew where it is fused: from so many on, products that share them win (measured on an H100). */
const mostFused = 32;

/** Whether the kernel can run and pays: floats, dense, few sequences, on a backend that has it. */
function canFuse(xz: Tensor, state: { conv: Tensor; ssm: Tensor }, { convWeight, xProj, dtProj, A }: MixerStepWeights): boolean {
  const floats = [xProj, dtProj].every(({ dtype }) => dtype === 'f32' || dtype === 'f16');
  const dense = [state.conv, state.ssm, convWeight, xProj, dtProj, A].every((tensor) => tensor.dense);
  return floats && dense && xz.rows <= mostFused && xz.backend.supports(kernels.mixerStep);
}

function composed(xz: Tensor, state: { conv: Tensor; ssm: Tensor }, weights: MixerStepWeights): Tensor {
  const { convWeight, convBias, xProj, dtProj, dtBias, A, D } = weights;
  const [channels, stateSize, rank] = [convWeight.rows, A.columns, dtProj.columns];
  const [x, z] = split(xz, [channels, channels]) as [Tensor, Tensor];
  const u = causalConv1dStep(state.conv, x, convWeight, { bias: convBias, activation: 'silu' });
  const [dt, B, C] = split(linear(u, xProj), [rank, stateSize, stateSize]) as [Tensor, Tensor, Tensor];
  return selectiveScanStep(state.ssm, u, linear(dt, dtProj), A, B, C, { D, z, deltaBias: dtBias, deltaSoftplus: true });
}
