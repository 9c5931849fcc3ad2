/** An attention layer in the words of the official Mamba package, whose hybrids hold it. */
import * as v from 'valibot';
import { ArgumentError, CheckpointError } from '../../util/errors.js';
import { checked, flag, ratio, size } from '../../util/schema.js';
import { largestAttentionSizes, type AttentionConfig } from './config.js';

/** The official package rounds the width of the gated unit up to a multiple of this. */
export const unitMultiple = 128;

/** Arguments of the official attention layer. */
export const attentionSchema = v.strictObject({
  causal: v.literal(true),
  num_heads: v.nonOptional(size(largestAttentionSizes.heads)),
  num_heads_kv: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  head_dim: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  mlp_dim: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  qkv_proj_bias: flag,
  out_proj_bias: flag,
  softmax_scale: v.optional(v.null()),
  d_conv: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  rotary_emb_dim: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  rotary_emb_base: ratio,
  rotary_emb_interleaved: v.optional(v.literal(false)),
});

/**
 * The attention layer that the official package makes of arguments.
 * @param location the file, and the key that holds them
 * @throws CheckpointError naming what is missing or wrong, or asks for what the layer is not
 */
export function readAttention(json: Readonly<Record<string, unknown>>, dModel: number, location: { readonly file: string; readonly key: string }): AttentionConfig {
  const a = checked(attentionSchema, json, location);
  const { num_heads: heads, d_conv: convWidth = 0, mlp_dim: wide = 0, rotary_emb_dim: turned = 0 } = a;
  if ((a.head_dim ?? null) === null && dModel % heads !== 0) {
    throw new CheckpointError(`is ${heads}; expected a divisor of d_model, ${dModel}, where there is no head_dim`, { file: location.file, key: `${location.key}.num_heads` });
  }
  return {
    ...{ dModel, heads, kvHeads: a.num_heads_kv ?? heads, headSize: a.head_dim ?? dModel / heads, inputBias: a.qkv_proj_bias ?? true, outputBias: a.out_proj_bias ?? true },
    rotary: turned === 0 ? null : { size: turned, base: a.rotary_emb_base ?? 10000, scaling: null },
    ...(convWidth === 0 ? {} : { convWidth }),
    ...(wide === 0 ? {} : { unit: unitMultiple * Math.ceil(wide / (2 * unitMultiple)) }),
  };
}

/** The arguments that make this layer. @throws ArgumentError where none do */
export function attentionWords(attention: AttentionConfig): Record<string, unknown> {
  const { heads, kvHeads, headSize, unit = 0, inputBias, outputBias, convWidth = 0, rotary, window } = attention;
  const beyond = window === undefined ? (rotary?.scaling ?? null) !== null && 'rotary.scaling' : 'window';
  if (beyond !== false) throw new ArgumentError({ operation: 'saveModel', argument: beyond, expected: 'none, as in the official package', got: 'one' });
  return {
    ...{ causal: true, num_heads: heads, num_heads_kv: kvHeads, head_dim: headSize, mlp_dim: 2 * unit, qkv_proj_bias: inputBias, out_proj_bias: outputBias },
    ...{ d_conv: convWidth, rotary_emb_dim: rotary?.size ?? 0, rotary_emb_base: rotary?.base ?? 10000 },
  };
}
