import * as v from 'valibot';
import { ArgumentError, CheckpointError } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import type { ConfigJson, FamilyKeys, FamilyOptions, ModelFamily } from '../family.js';
import { readRotary, rotarySchema, rotaryWords } from '../rotary-words.js';
import { build, largestSizes, problemOf, sizesFacts, usualHeads, type LayerNames, type TransformerConfig } from '../transformer-layers.js';

const keys: FamilyKeys = {
  ...{ trunk: 'model', embedding: 'embed_tokens', layers: 'layers', finalNorm: 'norm', head: 'lm_head' },
  // Older files hold what is worked out from the config.
  ignored: /\.rotary_emb\.inv_freq$/,
};

const names: LayerNames = {
  attention: 'self_attn',
  attentionProjections: { query: 'q_proj', key: 'k_proj', value: 'v_proj', output: 'o_proj' },
  feedForward: 'mlp',
  feedForwardProjections: { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' },
  attentionNorm: 'input_layernorm',
  feedForwardNorm: 'post_attention_layernorm',
};

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.optional(v.picklist(['llama', 'mistral'])),
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
  sliding_window: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  max_position_embeddings: size(largestSizes.contextLength),
  tie_word_embeddings: flag,
  initializer_range: real,
  attention_dropout: v.optional(v.number()),
  // How a product is divided; its value is the same.
  pretraining_tp: v.optional(v.number()),
  ...rotarySchema,
});

type Options = Pick<TransformerConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<TransformerConfig>;

function transformerConfig({ heads = 0, ...options }: Options): TransformerConfig {
  const { dModel } = options;
  const ownHeads = heads === 0 ? usualHeads(dModel) : heads;
  const headSize = options.headSize ?? Math.floor(dModel / ownHeads);
  const config: TransformerConfig = {
    ...{ heads: ownHeads, kvHeads: ownHeads, headSize, inputBias: false, outputBias: false, feedForwardBias: false },
    // Two thirds of 4·D, for a third matrix: as many weights as with two.
    ...{ inner: 8 * Math.ceil(dModel / 3), activation: 'silu', norm: 'rms', normEpsilon: 1e-5, contextLength: 2048 },
    ...{ rotary: { size: headSize, base: 10000, scaling: null }, tiedHead: true, endOfText: [], deviation: 0.02 },
    ...options,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'transformerConfig', ...problem });
  return config;
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): TransformerConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file) ?? [];
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const { hidden_size: dModel, num_attention_heads: heads, attention_bias: attentionBias = false } = c;
  if ((c.head_dim ?? null) === null && dModel % heads !== 0) {
    throw new CheckpointError(`is ${heads}; expected a divisor of hidden_size, ${dModel}, where there is no head_dim`, { file, key: 'num_attention_heads' });
  }
  const headSize = c.head_dim ?? dModel / heads;
  return configOfFile(file, () =>
    transformerConfig({
      ...{ vocabularySize: c.vocab_size, dModel, layers: c.num_hidden_layers, heads, kvHeads: c.num_key_value_heads ?? heads, headSize },
      ...{ inner: c.intermediate_size, inputBias: attentionBias, outputBias: attentionBias, feedForwardBias: c.mlp_bias ?? false },
      ...{ rotary: readRotary(c, file, { headSize, share: 1 }), normEpsilon: c.rms_norm_eps ?? 1e-6, contextLength: c.max_position_embeddings ?? 2048 },
      ...{ tiedHead: c.tie_word_embeddings ?? false, deviation: c.initializer_range ?? 0.02, endOfText },
      ...((c.sliding_window ?? null) === null ? {} : { window: c.sliding_window as number }),
    }),
  );
}

function write(config: TransformerConfig): Record<string, unknown> {
  const { window, rotary, headSize } = config;
  if (rotary === null) throw new ArgumentError({ operation: 'saveModel', argument: 'rotary', expected: 'a rotary embedding', got: 'null' });
  return {
    ...(window === undefined ? { architectures: ['LlamaForCausalLM'], model_type: 'llama' } : { architectures: ['MistralForCausalLM'], model_type: 'mistral' }),
    ...{ vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers },
    ...{ num_attention_heads: config.heads, num_key_value_heads: config.kvHeads, head_dim: headSize, intermediate_size: config.inner },
    ...{ hidden_act: 'silu', rms_norm_eps: config.normEpsilon, attention_bias: config.inputBias, mlp_bias: config.feedForwardBias },
    ...(window === undefined ? {} : { sliding_window: window }),
    ...{ rope_parameters: rotaryWords(rotary, headSize), max_position_embeddings: config.contextLength },
    ...{ tie_word_embeddings: config.tiedHead, [endOfTextKey]: endOfTextValue(config.endOfText), initializer_range: config.deviation, dtype: 'float32' },
  };
}

/** Of the Mamba paper's Transformer++ (table 12): width, layers and heads. */
const sizes: Readonly<Record<string, Pick<TransformerConfig, 'dModel' | 'layers' | 'heads'>>> = {
  '125m': { dModel: 768, layers: 12, heads: 12 },
  '350m': { dModel: 1024, layers: 24, heads: 16 },
  '760m': { dModel: 1536, layers: 24, heads: 16 },
  '1.3b': { dModel: 2048, layers: 24, heads: 32 },
};

function configOf(options: FamilyOptions): TransformerConfig {
  expectOptions('transformer', options, ['vocabularySize', 'size', 'dModel', 'layers', 'heads', 'kvHeads', 'inner', 'contextLength']);
  const { size: name, ...own } = options;
  if (name === undefined) return transformerConfig(own as unknown as Options);
  const published = sizes[String(name)];
  if (published === undefined) {
    throw new ArgumentError({ operation: 'configOf (transformer)', argument: 'size', expected: `one of ${Object.keys(sizes).join(', ')}`, got: `'${String(name)}'` });
  }
  return transformerConfig({ vocabularySize: 50280, ...published, ...own });
}

/**
 * The Transformer that the Mamba paper calls Transformer++: RMS norm, rotary positions, SwiGLU, no biases ("LLaMA", Touvron et al. 2023).
 * Keys and config.json as in transformers' `LlamaForCausalLM`; with a window, of `MistralForCausalLM`.
 */
export const transformerFamily: ModelFamily<TransformerConfig> = {
  name: 'transformer',
  modelTypes: ['llama', 'mistral'],
  recognises: ({ architectures }) => Array.isArray(architectures) && ['LlamaForCausalLM', 'MistralForCausalLM'].some((name) => architectures.includes(name)),
  keys,
  sizes: Object.keys(sizes),
  ...{ read, write, problemOf, configOf },
  build: (parameters, config) => build(parameters, config, keys, names),
  facts: (config) => [['layers', `${config.layers} blocks of attention and SwiGLU, RMS norm`], ...sizesFacts(config)],
};
