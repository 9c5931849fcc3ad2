import type { FloatDType, Tensor } from '../../tensor/index.js';
import { causalConv1dStep } from '../causal-conv1d/step.js';
import { selectiveScanStep } from '../selective-scan/selective-scan-step.js';
import { split } from '../view/view.js';

/** What a Mamba mixer remembers of B sequences. */
export interface MixerStepState {
  /** [B,K−1,E] f32 */
  readonly conv: Tensor;
  /** [B,E,N] f32 */
  readonly ssm: Tensor;
}

/** What a mixer's step needs between its two projections. */
export interface MixerStepParts {
  /** [E,K] f32 */
  readonly convWeight: Tensor;
  /** [E] f32 */
  readonly convBias: Tensor | null;
  /** Chooses Δ [B,E], before bias and softplus, and B and C [B,N] by the scan's input [B,E]. */
  readonly select: (u: Tensor) => { readonly delta: Tensor; readonly B: Tensor; readonly C: Tensor };
  /** [E] f32 */
  readonly dtBias: Tensor;
  /** −exp(A_log), [E,N] f32 */
  readonly A: Tensor;
  /** [E] f32 */
  readonly D: Tensor;
}

/**
 * One position of a Mamba mixer between its two projections, a launch for each operation: u = silu(conv(x)), Δ, B and C as `select`
 * has them, h ← exp(softplus(Δ + dtBias)·A)·h + …, (C·h + D·u)·silu(z). Frees nothing: it is called within a scope.
 *
 * @param xz x and z side by side, [B,2E]
 * @param state updated in place
 * @returns [B,E], for the projection out
 */
export function mixerStep(xz: Tensor, state: MixerStepState, { convWeight, convBias, select, dtBias, A, D }: MixerStepParts): Tensor<FloatDType> {
  const { rows: channels } = convWeight;
  const [x, z] = split(xz, [channels, channels]) as [Tensor, Tensor];
  const u = causalConv1dStep(state.conv, x, convWeight, { bias: convBias, activation: 'silu' });
  const { delta, B, C } = select(u);
  return selectiveScanStep(state.ssm, u, delta, A, B, C, { D, z, deltaBias: dtBias, deltaSoftplus: true });
}
