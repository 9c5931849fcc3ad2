import * as v from 'valibot';
import { ArgumentError } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, sizeNamed, warnOfUnread } from '../config-reading.js';
import type { ConfigJson, FamilyKeys, FamilyOptions, ModelFamily } from '../family.js';
import { readRotary, rotarySchema, rotaryWords } from '../rotary-words.js';
import { build, largestSizes, problemOf, sizesFacts, usualHeads, type LayerNames, type TransformerConfig } from '../transformer-layers.js';

/** What a GPT-NeoX looks like. */
export interface GptNeoxConfig extends TransformerConfig {
  /** Whether attention and feed-forward layer read the same stream, instead of one after the other. */
  readonly parallelResidual: boolean;
}

const keys: FamilyKeys = {
  ...{ trunk: 'gpt_neox', embedding: 'embed_in', layers: 'layers', finalNorm: 'final_layer_norm', head: 'embed_out' },
  // Older files hold the causal mask, and what is worked out from the config.
  ignored: /\.attention\.(masked_bias|bias|rotary_emb\.inv_freq)$/,
};

const names: LayerNames = {
  attention: 'attention',
  attentionProjections: { byHead: 'query_key_value', output: 'dense' },
  feedForward: 'mlp',
  feedForwardProjections: { up: 'dense_h_to_4h', down: 'dense_4h_to_h' },
  attentionNorm: 'input_layernorm',
  feedForwardNorm: 'post_attention_layernorm',
};

/** transformers' names of the activations. */
const activations = { gelu: 'gelu', gelu_new: 'geluTanh', gelu_pytorch_tanh: 'geluTanh', gelu_fast: 'geluTanh', relu: 'relu' } as const;

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.optional(v.literal('gpt_neox')),
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  hidden_size: v.nonOptional(size(largestSizes.dModel)),
  num_hidden_layers: v.nonOptional(size(largestSizes.layers)),
  num_attention_heads: v.nonOptional(size(largestSizes.heads)),
  intermediate_size: v.nonOptional(size(largestSizes.inner)),
  hidden_act: v.optional(v.picklist(Object.keys(activations) as (keyof typeof activations)[])),
  layer_norm_eps: epsilon,
  attention_bias: flag,
  use_parallel_residual: flag,
  max_position_embeddings: size(largestSizes.contextLength),
  tie_word_embeddings: flag,
  initializer_range: real,
  attention_dropout: v.optional(v.number()),
  hidden_dropout: v.optional(v.number()),
  classifier_dropout: v.optional(v.number()),
  ...rotarySchema,
});

type Options = Pick<GptNeoxConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<GptNeoxConfig>;

function gptNeoxConfig(options: Options): GptNeoxConfig {
  const { dModel, heads = usualHeads(dModel) } = options;
  const headSize = Math.floor(dModel / heads);
  const config: GptNeoxConfig = {
    ...{ heads, kvHeads: heads, headSize, inputBias: true, outputBias: true, feedForwardBias: true, inner: 4 * dModel, activation: 'gelu' },
    ...{ norm: 'layer', normEpsilon: 1e-5, contextLength: 2048, rotary: { size: 2 * Math.max(1, Math.floor(headSize / 8)), base: 10000, scaling: null } },
    ...{ parallelResidual: true, tiedHead: false, endOfText: [], deviation: 0.02 },
    ...options,
  };
  const problem = problemOf(config) ?? (dModel === heads * headSize ? undefined : { argument: 'heads', expected: `a divisor of dModel = ${dModel}`, got: String(heads) });
  if (problem !== undefined) throw new ArgumentError({ operation: 'gptNeoxConfig', ...problem });
  return config;
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): GptNeoxConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file) ?? [];
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const { hidden_size: dModel, num_attention_heads: heads, attention_bias: bias = true } = c;
  return configOfFile(file, () =>
    gptNeoxConfig({
      ...{ vocabularySize: c.vocab_size, dModel, layers: c.num_hidden_layers, heads, inner: c.intermediate_size },
      ...{ inputBias: bias, outputBias: bias, activation: activations[c.hidden_act ?? 'gelu'], normEpsilon: c.layer_norm_eps ?? 1e-5 },
      ...{ rotary: readRotary(c, file, { headSize: Math.floor(dModel / heads), share: 0.25 }), contextLength: c.max_position_embeddings ?? 2048 },
      ...{ parallelResidual: c.use_parallel_residual ?? true, tiedHead: c.tie_word_embeddings ?? false, deviation: c.initializer_range ?? 0.02, endOfText },
    }),
  );
}

function write(config: GptNeoxConfig): Record<string, unknown> {
  const { rotary, headSize, activation } = config;
  if (rotary === null) throw new ArgumentError({ operation: 'saveModel', argument: 'rotary', expected: 'a rotary embedding', got: 'null' });
  return {
    ...{ architectures: ['GPTNeoXForCausalLM'], model_type: 'gpt_neox' },
    ...{ vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers, num_attention_heads: config.heads },
    ...{ intermediate_size: config.inner, hidden_act: activation === 'geluTanh' ? 'gelu_new' : activation, layer_norm_eps: config.normEpsilon },
    ...{ attention_bias: config.inputBias, use_parallel_residual: config.parallelResidual, max_position_embeddings: config.contextLength },
    rope_parameters: { ...rotaryWords(rotary, headSize), partial_rotary_factor: rotary.size / headSize },
    ...{ tie_word_embeddings: config.tiedHead, [endOfTextKey]: endOfTextValue(config.endOfText), initializer_range: config.deviation, dtype: 'float32' },
  };
}

/** Of the Pythia models: width, layers and heads. */
const sizes: Readonly<Record<string, Pick<GptNeoxConfig, 'dModel' | 'layers' | 'heads'>>> = {
  '70m': { dModel: 512, layers: 6, heads: 8 },
  '160m': { dModel: 768, layers: 12, heads: 12 },
  '410m': { dModel: 1024, layers: 24, heads: 16 },
  '1b': { dModel: 2048, layers: 16, heads: 8 },
  '1.4b': { dModel: 2048, layers: 24, heads: 16 },
  '2.8b': { dModel: 2560, layers: 32, heads: 32 },
};

function configOf(options: FamilyOptions): GptNeoxConfig {
  expectOptions('gpt-neox', options, ['vocabularySize', 'size', 'dModel', 'layers', 'heads', 'inner', 'contextLength', 'parallelResidual']);
  const { size: name, ...own } = options;
  if (name === undefined) return gptNeoxConfig(own as unknown as Options);
  return gptNeoxConfig({ vocabularySize: 50304, ...sizeNamed('gpt-neox', sizes, name), ...own });
}

/**
 * GPT-NeoX, as the Pythia models are ("Pythia", Biderman et al. 2023): layer norm, rotary positions on a part of each head, GELU, biases,
 * attention and feed-forward layer on the same stream. Keys and config.json as in transformers' `GPTNeoXForCausalLM`.
 */
export const gptNeoxFamily: ModelFamily<GptNeoxConfig> = {
  name: 'gpt-neox',
  modelTypes: ['gpt_neox'],
  recognises: ({ architectures }) => Array.isArray(architectures) && architectures.includes('GPTNeoXForCausalLM'),
  keys,
  sizes: Object.keys(sizes),
  ...{ read, write, problemOf, configOf },
  build: (parameters, config) => build(parameters, config, keys, names, { parallel: config.parallelResidual }),
  facts: (config) => [['layers', `${config.layers} blocks of attention and GELU, layer norm, ${config.parallelResidual ? 'side by side' : 'one after the other'}`], ...sizesFacts(config)],
};
