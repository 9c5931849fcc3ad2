import * as v from 'valibot';
import { largestSwitchSizes, switchDefaults, switchMatrixSize, switchProblem, type SwitchConfig } from '../../mixers/switch/config.js';
import { expertsFact, switchSchema, switchWords } from '../../mixers/switch/config-words.js';
import { Switch } from '../../mixers/switch/mixer.js';
import { ArgumentError, type ArgumentProblem } from '../../util/errors.js';
import { checked, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import { parameterProblem, type ConfigJson, type FamilyKeys, type FamilyOptions, type ModelFamily } from '../family.js';
import { llamaSchema, llamaWords, readLlama } from '../llama-words.js';
import { readRotary, rotaryWords } from '../rotary-words.js';
import { build, problemOf as transformerProblem, sizesFacts, usualHeads, type LayerNames, type TransformerConfig } from '../transformer-layers.js';

/** A Transformer whose feed-forward layers are Switch layers. */
export interface SwitchTransformerConfig extends Omit<TransformerConfig, 'inner' | 'activation' | 'feedForwardBias'>, SwitchConfig {}

const type = 'elapid-switch-transformer';

const keys: FamilyKeys = { trunk: 'model', embedding: 'embed_tokens', layers: 'layers', finalNorm: 'norm', head: 'lm_head' };

const names: LayerNames = {
  attention: 'self_attn',
  attentionProjections: { query: 'q_proj', key: 'k_proj', value: 'v_proj', output: 'o_proj' },
  feedForward: 'mlp',
  feedForwardProjections: { up: 'lin1', down: 'lin2' },
  attentionNorm: 'input_layernorm',
  feedForwardNorm: 'post_attention_layernorm',
};

const without = <T extends object, K extends keyof T>(value: T, ...names: readonly K[]): Omit<T, K> =>
  Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name as K))) as Omit<T, K>;

/** What describes a feed-forward layer that is not there. */
const unused = ['intermediate_size', 'hidden_act', 'mlp_bias'] as const;

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.literal(type),
  ...{ ...without(llamaSchema, ...unused), ...switchSchema },
  n_experts: v.nonOptional(size(largestSwitchSizes.experts)),
});

type Options = Pick<SwitchTransformerConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<SwitchTransformerConfig>;

/** As the layers that it shares with other Transformers see it. */
const asTransformer = (config: SwitchTransformerConfig): TransformerConfig => ({ ...config, inner: config.expertSize, activation: 'relu', feedForwardBias: false });

function switchTransformerConfig(options: Options): SwitchTransformerConfig {
  const { dModel, heads = usualHeads(dModel) } = options;
  const headSize = options.headSize ?? Math.floor(dModel / heads);
  const config: SwitchTransformerConfig = {
    ...{ ...switchDefaults, expertSize: 4 * dModel, heads, kvHeads: heads, headSize, inputBias: false, outputBias: false },
    ...{ norm: 'rms', normEpsilon: 1e-5, contextLength: 2048, rotary: { size: headSize, base: 10000, scaling: null }, tiedHead: true, endOfText: [], deviation: 0.02 },
    ...options,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'switchTransformerConfig', ...problem });
  return config;
}

const problemOf = (config: SwitchTransformerConfig): ArgumentProblem | undefined =>
  switchProblem(config) ?? transformerProblem(asTransformer(config)) ?? parameterProblem(config.layers * switchMatrixSize(config).total);

function read(json: ConfigJson, file: string, onWarning: OnWarning): SwitchTransformerConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file) ?? [];
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const attention = without(readLlama({ ...c, intermediate_size: c.expert_size }, file), 'inner', 'feedForwardBias');
  const weights = { capacityFactor: c.capacity_factor, balanceWeight: c.balance_weight, zWeight: c.z_weight };
  return configOfFile(file, () =>
    switchTransformerConfig({
      ...{ ...attention, experts: c.n_experts, expertSize: c.expert_size },
      ...Object.fromEntries(Object.entries(weights).filter(([, value]) => value !== undefined)),
      ...{ rotary: readRotary(c, file, { headSize: attention.headSize, share: 1 }), normEpsilon: c.rms_norm_eps ?? 1e-5, contextLength: c.max_position_embeddings ?? 2048, endOfText },
    }),
  );
}

function write(config: SwitchTransformerConfig): Record<string, unknown> {
  const { rotary, headSize, window } = config;
  if (rotary === null || window !== undefined) throw new ArgumentError({ operation: 'saveModel', argument: 'attention', expected: 'a rotary embedding and no window', got: 'another' });
  const words: Readonly<Record<string, unknown>> = llamaWords(asTransformer(config));
  return { model_type: type, ...without(words, ...unused), ...switchWords(config), rope_parameters: rotaryWords(rotary, headSize), [endOfTextKey]: endOfTextValue(config.endOfText) };
}

function configOf(options: FamilyOptions): SwitchTransformerConfig {
  const own = ['experts', 'expertSize', 'capacityFactor', 'balanceWeight', 'zWeight'];
  expectOptions('switch-transformer', options, ['vocabularySize', 'dModel', 'layers', 'heads', 'kvHeads', 'contextLength', ...own]);
  return switchTransformerConfig(options as unknown as Options);
}

/**
 * A causal Transformer with Switch layers ("Switch Transformers", Fedus et al. 2021) in the feed-forward layers' place, what MoE-Mamba is compared
 * with: RMS norm and rotary positions, as the family `transformer` has them. The form of config.json is this package's own; keys are those of
 * transformers' `LlamaForCausalLM`, and of a Switch layer `mlp.gate`, `mlp.lin1_weight`, `mlp.lin2_weight`.
 */
export const switchTransformerFamily: ModelFamily<SwitchTransformerConfig> = {
  name: 'switch-transformer',
  modelTypes: [type],
  keys,
  ...{ read, write, problemOf, configOf },
  build: (parameters, config) => build(parameters, asTransformer(config), keys, names, { feedForward: (at) => new Switch(at, config) }),
  facts: (config) => [['layers', `${config.layers} blocks of attention and a Switch layer, RMS norm`], ...sizesFacts(asTransformer(config)), expertsFact(config)],
};
