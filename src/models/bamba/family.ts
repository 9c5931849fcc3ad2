import * as v from 'valibot';
import { limitSchema, limitWords } from '../../mixers/mamba2/config-words.js';
import { headsOf, innerOf, largestMamba2Sizes, mamba2MixerConfig, mixerMatrixSize, mixerProblem, usualHeadSize, type Mamba2MixerConfig } from '../../mixers/mamba2/config.js';
import { Mamba2Mixer } from '../../mixers/mamba2/mixer.js';
import { ArgumentError, CheckpointError, type ArgumentProblem } from '../../util/errors.js';
import { checked, flag, ratio, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { agreement, configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, layerList, refuseQuantized, warnOfUnread } from '../config-reading.js';
import { parameterProblem, type ConfigJson, type FamilyKeys, type FamilyOptions, type ModelFamily } from '../family.js';
import { attentionLayersProblem, mixerFact, mixersInWords, partProblem } from '../mamba2-layers.js';
import { llamaSchema, llamaWords, readLlama } from '../llama-words.js';
import { readRotary, rotaryWords } from '../rotary-words.js';
import { build, problemOf as transformerProblem, sizesFacts, usualHeads, type LayerNames, type TransformerConfig } from '../transformer-layers.js';

/** What a Bamba looks like: a Transformer with Mamba-2 mixers in attention's place in most layers. */
export interface BambaConfig extends TransformerConfig {
  /** The layers that hold attention, from 0, in order. */
  readonly attentionLayers: readonly number[];
  /** Of the other layers. */
  readonly mamba: Mamba2MixerConfig;
}

const keys: FamilyKeys = {
  ...{ trunk: 'model', embedding: 'embed_tokens', layers: 'layers', finalNorm: 'final_layernorm', head: 'lm_head' },
  // Older files hold what is worked out from the config.
  ignored: /\.rotary_emb\.inv_freq$/,
};

const names: LayerNames = {
  attention: 'self_attn',
  attentionProjections: { query: 'q_proj', key: 'k_proj', value: 'v_proj', output: 'o_proj' },
  feedForward: 'feed_forward',
  feedForwardProjections: { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' },
  attentionNorm: 'input_layernorm',
  feedForwardNorm: 'pre_ff_layernorm',
};

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.optional(v.literal('bamba')),
  ...llamaSchema,
  attn_layer_indices: v.nullish(v.array(v.pipe(v.number(), v.integer(), v.minValue(0)))),
  attn_rotary_emb: v.optional(v.pipe(v.number(), v.integer(), v.minValue(2))),
  mamba_d_state: size(largestMamba2Sizes.dState),
  mamba_d_conv: size(largestMamba2Sizes.dConv),
  mamba_expand: ratio,
  mamba_n_heads: size(largestMamba2Sizes.dSsm),
  mamba_d_head: v.optional(v.union([v.literal('auto'), v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(largestMamba2Sizes.headSize))])),
  mamba_n_groups: size(largestMamba2Sizes.groups),
  mamba_conv_bias: flag,
  mamba_proj_bias: flag,
  time_step_limit: limitSchema,
  // What training programs use, how work is divided, and how many logits are returned.
  z_loss_coefficient: v.optional(v.number()),
  mamba_chunk_size: v.optional(v.number()),
  num_logits_to_keep: v.optional(v.number()),
});

type Options = Pick<BambaConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<BambaConfig>;

/** One layer in ten, but at least one, spread evenly. */
function usualAttentionLayers(layers: number): number[] {
  const count = Math.max(1, Math.round(layers / 10));
  return Array.from({ length: count }, (_, i) => Math.floor((layers * (i + 1)) / (count + 1)));
}

function bambaConfig(options: Options): BambaConfig {
  const { dModel, layers, heads = usualHeads(dModel) } = options;
  const headSize = options.headSize ?? Math.floor(dModel / heads);
  const config: BambaConfig = {
    ...{ heads, kvHeads: heads, headSize, inputBias: false, outputBias: false, feedForwardBias: false, inner: 8 * Math.ceil(dModel / 3) },
    ...{ activation: 'silu', norm: 'rms', normEpsilon: 1e-5, contextLength: 2048, tiedHead: false, endOfText: [], deviation: 0.02 },
    rotary: { size: 2 * Math.max(1, Math.floor(headSize / 4)), base: 10000, scaling: null },
    attentionLayers: usualAttentionLayers(layers),
    mamba: mamba2MixerConfig({ dModel, headSize: usualHeadSize(2 * dModel) }),
    ...options,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'bambaConfig', ...problem });
  return config;
}

function problemOf(config: BambaConfig): ArgumentProblem | undefined {
  const { attentionLayers, layers, mamba, dModel, normEpsilon } = config;
  return (
    transformerProblem(config) ??
    mixerProblem(mamba) ??
    attentionLayersProblem(attentionLayers, layers) ??
    partProblem({ 'mamba.dModel': [mamba.dModel, dModel], 'mamba.gatedNorm.epsilon': [mamba.gatedNorm?.epsilon ?? normEpsilon, normEpsilon] }) ??
    parameterProblem(layers * mixerMatrixSize(mamba))
  );
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): BambaConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file) ?? [];
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const { mamba_n_heads: mambaHeads = 128, mamba_d_head: asked = 'auto' } = c;
  const llama = readLlama(c, file);
  const { dModel, headSize } = llama;
  const rotary = readRotary(c, file, { headSize, share: 0.5 });
  agreement(file, [['attn_rotary_emb', c.attn_rotary_emb], ['partial_rotary_factor', c.attn_rotary_emb === undefined ? undefined : rotary.size]]);
  const dInner = innerOf(c.mamba_expand ?? 2, dModel);
  const mambaHeadSize = asked === 'auto' ? dInner / mambaHeads : asked;
  if (mambaHeads * mambaHeadSize !== dInner || !Number.isInteger(mambaHeadSize)) {
    throw new CheckpointError(`is ${mambaHeads}, and mamba_d_head is ${asked}; expected a product of mamba_expand · hidden_size = ${dInner}`, { file, key: 'mamba_n_heads' });
  }
  const normEpsilon = c.rms_norm_eps ?? 1e-5;
  return configOfFile(file, () =>
    bambaConfig({
      ...llama,
      ...{ rotary, normEpsilon, contextLength: c.max_position_embeddings ?? 262144, endOfText },
      attentionLayers: [...new Set(c.attn_layer_indices ?? [])].sort((a, b) => a - b),
      mamba: mamba2MixerConfig({
        ...{ dModel, dInner, headSize: mambaHeadSize, dState: c.mamba_d_state ?? 256, dConv: c.mamba_d_conv ?? 4, groups: c.mamba_n_groups ?? 1 },
        ...{ projectionBias: c.mamba_proj_bias ?? false, convBias: c.mamba_conv_bias ?? true, dtLimit: c.time_step_limit ?? [0, Infinity] },
        // transformers norms the whole width, however many groups there are.
        gatedNorm: { epsilon: normEpsilon, groups: 1 },
      }),
    }),
  );
}

function write(config: BambaConfig): Record<string, unknown> {
  const { rotary, headSize, dModel, mamba } = config;
  if (rotary === null) throw new ArgumentError({ operation: 'saveModel', argument: 'rotary', expected: 'a rotary embedding', got: 'null' });
  const { gatedNorm, dInner, dSsm, skipPerChannel } = mamba;
  if (gatedNorm?.groups !== 1 || gatedNorm.normBeforeGate || dInner !== dSsm || skipPerChannel) {
    throw new ArgumentError({ operation: 'saveModel', argument: 'mamba', expected: 'a mixer as transformers’ Bamba has it', got: 'another' });
  }
  return {
    ...{ architectures: ['BambaForCausalLM'], model_type: 'bamba', ...llamaWords(config), attn_layer_indices: config.attentionLayers },
    ...{ mamba_d_state: mamba.dState, mamba_d_conv: mamba.dConv, mamba_expand: dInner / dModel, mamba_n_heads: headsOf(mamba), mamba_d_head: mamba.headSize },
    ...{ mamba_n_groups: mamba.groups, mamba_conv_bias: mamba.convBias, mamba_proj_bias: mamba.projectionBias, time_step_limit: limitWords(mamba) },
    ...{ rope_parameters: { ...rotaryWords(rotary, headSize), partial_rotary_factor: rotary.size / headSize }, [endOfTextKey]: endOfTextValue(config.endOfText) },
  };
}

/** Of ibm-ai-platform/Bamba-9B. */
const sizeOf9b = {
  ...{ vocabularySize: 128256, dModel: 4096, layers: 32, heads: 32, kvHeads: 8, inner: 14336, attentionLayers: [9, 18, 27], contextLength: 4096 },
};

function configOf(options: FamilyOptions): BambaConfig {
  const own = ['vocabularySize', 'size', 'dModel', 'layers', 'heads', 'kvHeads', 'inner', 'contextLength', 'attentionLayers'];
  expectOptions('bamba', options, [...own, 'dState', 'dConv', 'expand', 'mambaHeadSize', 'groups']);
  const { size: name, attentionLayers: listed, dState, dConv, expand, mambaHeadSize, groups, ...rest } = options;
  if (name !== undefined && name !== '9b') throw new ArgumentError({ operation: 'configOf (bamba)', argument: 'size', expected: "'9b'", got: `'${String(name)}'` });
  const given = { ...(name === undefined ? {} : sizeOf9b), ...rest } as unknown as Options;
  const { dModel } = given;
  const sizes = Object.fromEntries(Object.entries({ dState, dConv, expand, groups }).filter(([, value]) => value !== undefined));
  const headSize = mambaHeadSize === undefined ? usualHeadSize(innerOf(Number(expand ?? 2), dModel)) : Number(mambaHeadSize);
  return bambaConfig({
    ...given,
    ...(listed === undefined ? {} : { attentionLayers: layerList('configOf (bamba)', 'attentionLayers', listed) }),
    mamba: mamba2MixerConfig({ dModel, headSize, ...sizes, gatedNorm: { groups: 1 } }),
  });
}

/**
 * Bamba (IBM, Princeton, CMU, UIUC 2024): a Transformer that has Mamba-2 mixers in attention's place in all but a few layers, rotary
 * positions on half of each head, and SwiGLU in each layer. Keys and config.json as in transformers' `BambaForCausalLM`.
 */
export const bambaFamily: ModelFamily<BambaConfig> = {
  name: 'bamba',
  modelTypes: ['bamba'],
  recognises: ({ architectures }) => Array.isArray(architectures) && architectures.includes('BambaForCausalLM'),
  keys,
  sizes: ['9b'],
  ...{ read, write, problemOf, configOf },
  build(parameters, config) {
    const { attentionLayers, mamba, layers } = config;
    const mixer = { name: 'mamba', make: (at: typeof parameters) => new Mamba2Mixer(at, mamba, { outputGain: 1 / Math.sqrt(2 * layers) }) };
    return build(parameters, config, keys, names, { otherMixer: (layer) => (attentionLayers.includes(layer) ? undefined : mixer) });
  },
  facts: (config) => [
    ['layers', `${mixersInWords(config.layers, config.attentionLayers)}, SwiGLU in each, RMS norm`],
    mixerFact(config.mamba),
    ...sizesFacts(config).map(([label, value]) => [label === 'sizes' ? 'attention' : label, value] as const),
  ],
};
