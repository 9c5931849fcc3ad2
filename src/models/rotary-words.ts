/** Rotary embedding in the words of transformers' config.json: `rope_parameters` of version 5, `rope_theta` and `rope_scaling` before. */
import * as v from 'valibot';
import type { RotaryConfig, RotaryScaling } from '../mixers/attention/config.js';
import { CheckpointError } from '../util/errors.js';
import { agreement } from './config-reading.js';

const positive = v.optional(v.pipe(v.number(), v.gtValue(0), v.finite()));
const share = v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)));

const scalingSchema = v.nullish(
  v.strictObject({
    rope_type: v.optional(v.picklist(['default', 'linear', 'llama3'])),
    type: v.optional(v.picklist(['default', 'linear', 'llama3'])),
    rope_theta: positive,
    partial_rotary_factor: share,
    factor: positive,
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: positive,
  }),
);

/** The keys that describe rotary embedding. */
export const rotarySchema = {
  rope_parameters: scalingSchema,
  rope_scaling: scalingSchema,
  rope_theta: positive,
  rotary_emb_base: positive,
  partial_rotary_factor: share,
  rotary_pct: share,
};

type RotaryWords = v.InferOutput<v.ObjectSchema<typeof rotarySchema, undefined>>;

/**
 * @param options.headSize P @param options.share the part of a head that is turned where the file does not say
 * @throws CheckpointError where the file contradicts itself, or leaves out what a scaling needs
 */
export function readRotary(c: RotaryWords, file: string, { headSize, share: usual }: { readonly headSize: number; readonly share: number }): RotaryConfig {
  const p = c.rope_parameters;
  const base = agreement(file, [['rope_parameters.rope_theta', p?.rope_theta], ['rope_theta', c.rope_theta], ['rotary_emb_base', c.rotary_emb_base]]) ?? 10000;
  const part = agreement(file, [['rope_parameters.partial_rotary_factor', p?.partial_rotary_factor], ['partial_rotary_factor', c.partial_rotary_factor], ['rotary_pct', c.rotary_pct]]) ?? usual;
  const [key, scaling] = p === undefined || p === null ? (['rope_scaling', c.rope_scaling] as const) : (['rope_parameters', p] as const);
  return { size: Math.floor(headSize * part), base, scaling: readScaling(scaling, { file, key }) };
}

function readScaling(words: v.InferOutput<typeof scalingSchema>, at: { readonly file: string; readonly key: string }): RotaryScaling | null {
  const kind = words?.rope_type ?? words?.type ?? 'default';
  if (words === null || words === undefined || kind === 'default') return null;
  const needed = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings'): number => {
    const value = words[name];
    if (value === undefined) throw new CheckpointError(`is missing; expected a number, which "${kind}" needs`, { file: at.file, key: `${at.key}.${name}` });
    return value;
  };
  const factor = needed('factor');
  if (kind === 'linear') return { kind, factor };
  return { kind, factor, lowFactor: needed('low_freq_factor'), highFactor: needed('high_freq_factor'), contextLength: needed('original_max_position_embeddings') };
}

/** The value of `rope_parameters`. */
export function rotaryWords({ size, base, scaling }: RotaryConfig, headSize: number): Record<string, unknown> {
  return {
    ...{ rope_theta: base, rope_type: scaling?.kind ?? 'default' },
    ...(size === headSize ? {} : { partial_rotary_factor: size / headSize }),
    ...(scaling === null ? {} : { factor: scaling.factor }),
    ...(scaling?.kind === 'llama3'
      ? { low_freq_factor: scaling.lowFactor, high_freq_factor: scaling.highFactor, original_max_position_embeddings: scaling.contextLength }
      : {}),
  };
}
