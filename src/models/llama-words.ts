/** Layers of attention and SwiGLU in the words of transformers' config.json, as Llama, Mistral and Bamba have them. */
import * as v from 'valibot';
import type { TransformerConfig } from './transformer-layers.js';
import { largestSizes } from './transformer-layers.js';
import { CheckpointError } from '../util/errors.js';
import { epsilon, flag, real, size } from '../util/schema.js';
import { rotarySchema } from './rotary-words.js';

/** The keys that describe them. */
export const llamaSchema = {
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  hidden_size: v.nonOptional(size(largestSizes.dModel)),
  num_hidden_layers: v.nonOptional(size(largestSizes.layers)),
  num_attention_heads: v.nonOptional(size(largestSizes.heads)),
  num_key_value_heads: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  head_dim: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(largestSizes.headSize))),
  intermediate_size: v.nonOptional(size(largestSizes.inner)),
  hidden_act: v.optional(v.picklist(['silu', 'swish'])),
  rms_norm_eps: epsilon,
  attention_bias: flag,
  mlp_bias: flag,
  max_position_embeddings: size(largestSizes.contextLength),
  tie_word_embeddings: flag,
  initializer_range: real,
  attention_dropout: v.optional(v.number()),
  ...rotarySchema,
};

type LlamaWords = v.InferOutput<v.ObjectSchema<typeof llamaSchema, undefined>>;

/**
 * What a config.json says of these layers, but for what families have different defaults of: norm, context length and rotary embedding.
 * @throws CheckpointError where the width is not divided by the heads, and no size of a head is given
 */
export function readLlama(c: LlamaWords, file: string) {
  const { hidden_size: dModel, num_attention_heads: heads, attention_bias: bias = false } = c;
  if ((c.head_dim ?? null) === null && dModel % heads !== 0) {
    throw new CheckpointError(`is ${heads}; expected a divisor of hidden_size, ${dModel}, where there is no head_dim`, { file, key: 'num_attention_heads' });
  }
  return {
    ...{ vocabularySize: c.vocab_size, dModel, layers: c.num_hidden_layers, heads, kvHeads: c.num_key_value_heads ?? heads, headSize: c.head_dim ?? dModel / heads },
    ...{ inner: c.intermediate_size, inputBias: bias, outputBias: bias, feedForwardBias: c.mlp_bias ?? false },
    ...{ tiedHead: c.tie_word_embeddings ?? false, deviation: c.initializer_range ?? 0.02 },
  };
}

/** The keys and values that describe these layers. */
export const llamaWords = (config: TransformerConfig): Record<string, unknown> => ({
  ...{ vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers },
  ...{ num_attention_heads: config.heads, num_key_value_heads: config.kvHeads, head_dim: config.headSize, intermediate_size: config.inner },
  ...{ hidden_act: 'silu', rms_norm_eps: config.normEpsilon, attention_bias: config.inputBias, mlp_bias: config.feedForwardBias },
  ...{ max_position_embeddings: config.contextLength, tie_word_embeddings: config.tiedHead, initializer_range: config.deviation, dtype: 'float32' },
});
