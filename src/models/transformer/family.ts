import * as v from 'valibot';
import { ArgumentError } from '../../util/errors.js';
import { checked } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, sizeNamed, warnOfUnread } from '../config-reading.js';
import type { ConfigJson, FamilyKeys, FamilyOptions, ModelFamily } from '../family.js';
import { llamaSchema, llamaWords, readLlama } from '../llama-words.js';
import { readRotary, rotaryWords } from '../rotary-words.js';
import { build, problemOf, sizesFacts, usualHeads, type LayerNames, type TransformerConfig } from '../transformer-layers.js';

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
  ...llamaSchema,
  sliding_window: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  // How a product is divided; its value is the same.
  pretraining_tp: v.optional(v.number()),
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
  const llama = readLlama(c, file);
  return configOfFile(file, () =>
    transformerConfig({
      ...llama,
      ...{ rotary: readRotary(c, file, { headSize: llama.headSize, share: 1 }), normEpsilon: c.rms_norm_eps ?? 1e-6, contextLength: c.max_position_embeddings ?? 2048, endOfText },
      ...((c.sliding_window ?? null) === null ? {} : { window: c.sliding_window as number }),
    }),
  );
}

function write(config: TransformerConfig): Record<string, unknown> {
  const { window, rotary, headSize } = config;
  if (rotary === null) throw new ArgumentError({ operation: 'saveModel', argument: 'rotary', expected: 'a rotary embedding', got: 'null' });
  return {
    ...(window === undefined ? { architectures: ['LlamaForCausalLM'], model_type: 'llama' } : { architectures: ['MistralForCausalLM'], model_type: 'mistral' }),
    ...llamaWords(config),
    ...(window === undefined ? {} : { sliding_window: window }),
    ...{ rope_parameters: rotaryWords(rotary, headSize), [endOfTextKey]: endOfTextValue(config.endOfText) },
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
  return transformerConfig({ vocabularySize: 50280, ...sizeNamed('transformer', sizes, name), ...own });
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
