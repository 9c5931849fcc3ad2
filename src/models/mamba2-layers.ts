/** What families share that hold Mamba-2 mixers. */
import { headsOf, type Mamba2MixerConfig } from '../mixers/mamba2/config.js';
import type { Fact } from './family.js';

/** The sizes of a mixer, as `elapid inspect` shows them. */
export function mixerFact(config: Mamba2MixerConfig): Fact {
  const { dModel, dInner, dSsm, dState, dConv, headSize, groups } = config;
  const inner = dSsm === dInner ? '' : `, ${dInner - dSsm} channels gated without a state`;
  return ['sizes', `d_model ${dModel}, d_inner ${dInner}, ${headsOf(config)} heads of ${headSize}, d_state ${dState}, groups ${groups}, d_conv ${dConv}${inner}`];
}
