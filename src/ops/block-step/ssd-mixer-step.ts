import type { FloatDType, Tensor } from '../../tensor/index.js';
import { causalConv1dStep } from '../causal-conv1d/step.js';
import type { SsdStepOptions } from '../ssd/arguments.js';
import { ssdStep } from '../ssd/ssd-step.js';
import { split } from '../view/view.js';

/** What a Mamba-2 mixer remembers of B sequences. */
export interface SsdMixerState {
  /** [B,K−1,H·P + 2·G·N] f32 */
  readonly conv: Tensor;
  /** [B,H,P,N] f32 */
  readonly ssm: Tensor;
}

/** What a Mamba-2 mixer's step needs between its two projections. */
export interface SsdMixerWeights {
  /** [H·P + 2·G·N, K] f32 */
  readonly convWeight: Tensor;
  /** [H·P + 2·G·N] f32 */
  readonly convBias: Tensor | null;
  /** [H] f32 */
  readonly dtBias: Tensor;
  /** −exp(A_log), [H] f32 */
  readonly A: Tensor;
  /** [H] f32; of `ssdMixerStep` also [H·P] */
  readonly D: Tensor;
}

/**
 * One position of a Mamba-2 mixer between its two projections, a launch for each operation: (x, B, C) = silu(conv(·)), then `ssdStep`.
 * Frees nothing: it is called within a scope.
 *
 * @param projected z, what is convolved, and Δ side by side, [B, 2·H·P + 2·G·N + H]
 * @param state updated in place
 * @param options.gated whether y is multiplied by silu(z)
 * @returns y [B,H·P], and z
 */
export function ssdMixerStep(
  projected: Tensor,
  state: SsdMixerState,
  { convWeight, convBias, dtBias, A, D }: SsdMixerWeights,
  { gated, ...options }: Pick<SsdStepOptions, 'groups' | 'deltaLimits'> & { readonly gated: boolean },
): { y: Tensor<FloatDType>; z: Tensor } {
  const { rows: channels } = convWeight;
  const heads = A.columns;
  const inner = projected.columns - channels - heads;
  const [z, convolved, delta] = split(projected, [inner, channels, heads]) as [Tensor, Tensor, Tensor];
  const u = causalConv1dStep(state.conv, convolved, convWeight, { bias: convBias, activation: 'silu' });
  const weights = (channels - inner) / 2;
  const [x, B, C] = split(u, [inner, weights, weights]) as [Tensor, Tensor, Tensor];
  return { y: ssdStep(state.ssm, x, delta, A, B, C, { ...options, D, z: gated ? z : null, deltaBias: dtBias, deltaSoftplus: true }), z };
}
