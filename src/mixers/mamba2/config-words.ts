/** A Mamba-2 mixer in the words of config.json: transformers', and those of the official package. */
import * as v from 'valibot';
import { flag, ratio, real, size } from '../../util/schema.js';
import { headsOf, largestMamba2Sizes as largest, type Mamba2MixerConfig } from './config.js';

const positive = v.optional(v.pipe(v.number(), v.gtValue(0), v.finite()));

/** Two numbers; the second may be infinite. */
export const limitSchema = v.optional(v.strictTuple([v.pipe(v.number(), v.minValue(0)), v.pipe(v.number(), v.gtValue(0))]));

/** The keys with which transformers describes a mixer. */
export const mixerSchema = {
  state_size: size(largest.dState),
  conv_kernel: size(largest.dConv),
  expand: ratio,
  head_dim: size(largest.headSize),
  num_heads: size(largest.dSsm),
  n_groups: size(largest.groups),
  use_bias: flag,
  use_conv_bias: flag,
  hidden_act: v.optional(v.picklist(['silu', 'swish'])),
  time_step_min: real,
  time_step_max: real,
  time_step_floor: real,
  time_step_limit: limitSchema,
  // Neither changes what is computed: how the work is divided, and a size that is read nowhere.
  chunk_size: v.optional(v.number()),
  time_step_rank: v.optional(v.unknown()),
};

/** Arguments of the official `Mamba2` layer. */
export const layerSchema = {
  d_state: size(largest.dState),
  d_conv: size(largest.dConv),
  conv_init: v.nullish(v.pipe(v.number(), v.gtValue(0), v.finite())),
  expand: ratio,
  headdim: size(largest.headSize),
  d_ssm: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(largest.dSsm))),
  ngroups: size(largest.groups),
  A_init_range: v.optional(v.strictTuple([v.pipe(v.number(), v.gtValue(0)), v.pipe(v.number(), v.gtValue(0))])),
  D_has_hdim: flag,
  rmsnorm: flag,
  norm_before_gate: flag,
  dt_min: positive,
  dt_max: positive,
  dt_init_floor: positive,
  dt_limit: limitSchema,
  bias: flag,
  conv_bias: flag,
  chunk_size: v.optional(v.number()),
  use_mem_eff_path: flag,
};

/** The keys and values with which transformers describes this mixer. */
export const mixerWords = (config: Mamba2MixerConfig): Record<string, unknown> => ({
  state_size: config.dState,
  conv_kernel: config.dConv,
  expand: config.dInner / config.dModel,
  head_dim: config.headSize,
  num_heads: headsOf(config),
  n_groups: config.groups,
  use_bias: config.projectionBias,
  use_conv_bias: config.convBias,
  hidden_act: 'silu',
  time_step_min: config.initialisation.dtMin,
  time_step_max: config.initialisation.dtMax,
  time_step_floor: config.initialisation.dtFloor,
  time_step_limit: limitWords(config),
});

/** The keys and values with which the official package describes this mixer. */
export const layerWords = (config: Mamba2MixerConfig): Record<string, unknown> => ({
  d_state: config.dState,
  d_conv: config.dConv,
  conv_init: config.initialisation.convBound,
  expand: config.dInner / config.dModel,
  headdim: config.headSize,
  d_ssm: config.dSsm === config.dInner ? null : config.dSsm,
  ngroups: config.groups,
  A_init_range: [config.initialisation.aMin, config.initialisation.aMax],
  D_has_hdim: config.skipPerChannel,
  rmsnorm: config.gatedNorm !== null,
  norm_before_gate: config.gatedNorm?.normBeforeGate ?? false,
  dt_min: config.initialisation.dtMin,
  dt_max: config.initialisation.dtMax,
  dt_init_floor: config.initialisation.dtFloor,
  dt_limit: limitWords(config),
  bias: config.projectionBias,
  conv_bias: config.convBias,
});

/** Infinity as transformers writes it; undefined, which JSON leaves out, where there is no limit: the default of all programs. */
export function limitWords({ dtLimit: [least, most] }: Mamba2MixerConfig): unknown {
  if (least === 0 && most === Infinity) return undefined;
  return [least, most === Infinity ? { __float__: 'Infinity' } : most];
}
