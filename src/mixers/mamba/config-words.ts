/** A Mamba mixer in the words of transformers' config.json. */
import * as v from 'valibot';
import { flag, ratio, real, size } from '../../util/schema.js';
import { largestMixerSizes as largest, type MambaMixerConfig } from './config.js';

/** R: a number, or ⌈D/16⌉. */
export const rankSchema = v.optional(v.union([v.literal('auto'), v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(largest.dtRank))]));

/** The keys that describe a mixer. */
export const mixerSchema = {
  state_size: size(largest.dState),
  conv_kernel: size(largest.dConv),
  expand: ratio,
  intermediate_size: size(largest.dInner),
  time_step_rank: rankSchema,
  use_bias: flag,
  use_conv_bias: flag,
  hidden_act: v.optional(v.picklist(['silu', 'swish'])),
  time_step_scale: real,
  time_step_min: real,
  time_step_max: real,
  time_step_init_scheme: v.optional(v.picklist(['random', 'uniform', 'constant'])),
  time_step_floor: real,
  rescale_prenorm_residual: flag,
};

/** The keys and values that describe this mixer. */
export function mixerWords({ dModel, dInner, dState, dConv, dtRank, projectionBias, convBias, initialisation: i }: MambaMixerConfig): Record<string, unknown> {
  return {
    state_size: dState,
    conv_kernel: dConv,
    expand: dInner / dModel,
    intermediate_size: dInner,
    time_step_rank: dtRank,
    use_bias: projectionBias,
    use_conv_bias: convBias,
    hidden_act: 'silu',
    time_step_scale: i.dtScale,
    time_step_min: i.dtMin,
    time_step_max: i.dtMax,
    time_step_init_scheme: i.dtInit,
    time_step_floor: i.dtFloor,
    rescale_prenorm_residual: i.rescaleOutput,
  };
}
