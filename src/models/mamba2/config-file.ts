/** config.json of Mamba-2, in transformers' words and in those of the official package (state-spaces/mamba). */
import * as v from 'valibot';
import { attentionWords, readAttention } from '../../mixers/attention/config-words.js';
import { layerSchema, layerWords, mixerSchema, mixerWords } from '../../mixers/mamba2/config-words.js';
import { headsOf, innerOf } from '../../mixers/mamba2/config.js';
import { ArgumentError, CheckpointError } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, refuseQuantized, warnOfUnread } from '../config-reading.js';
import type { ConfigJson } from '../family.js';
import { innerMultiple, largestSizes, mamba2Config, type Mamba2Config } from './config.js';

/** transformers' keys. */
const transformersSchema = v.object({
  model_type: v.optional(v.literal('mamba2')),
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  hidden_size: v.nonOptional(size(largestSizes.dModel)),
  num_hidden_layers: v.nonOptional(size(largestSizes.layers)),
  ...mixerSchema,
  layer_norm_epsilon: epsilon,
  tie_word_embeddings: flag,
  initializer_range: real,
  rescale_prenorm_residual: flag,
  // transformers reads none of them: its norm comes after the gate, and is an RMS norm.
  rms_norm: v.optional(v.literal(true)),
  norm_before_gate: flag,
  time_step_init_scheme: v.optional(v.unknown()),
  time_step_scale: v.optional(v.unknown()),
});

/** The official package's keys, and those of transformers' that this package adds for what they leave unsaid. */
const officialSchema = v.object({
  d_model: v.nonOptional(size(largestSizes.dModel)),
  n_layer: v.nonOptional(size(largestSizes.layers)),
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  d_intermediate: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  ssm_cfg: v.strictObject({ layer: v.literal('Mamba2'), ...layerSchema }),
  attn_layer_idx: v.nullish(v.array(v.pipe(v.number(), v.integer(), v.minValue(0)))),
  attn_cfg: v.nullish(v.record(v.string(), v.unknown())),
  rms_norm: flag,
  pad_vocab_size_multiple: size(largestSizes.vocabularySize),
  tie_embeddings: flag,
  layer_norm_epsilon: epsilon,
  initializer_range: real,
  rescale_prenorm_residual: flag,
});

/** Whether a config.json without a `model_type` is Mamba-2's. */
export function isMamba2Config({ ssm_cfg: layer, architectures }: ConfigJson): boolean {
  if (typeof layer === 'object' && layer !== null) return (layer as { layer?: unknown }).layer === 'Mamba2';
  return Array.isArray(architectures) && architectures.includes('Mamba2ForCausalLM');
}

/**
 * Reads a config.json of either dialect. Where there are several groups, transformers norms a mixer's output over the whole width, and the
 * official package each group by itself: the file's dialect decides.
 * @param file its path, for messages
 * @param onWarning told of each key that has no effect here
 * @throws CheckpointError naming the key that is missing or wrong, or that asks for what this model is not
 */
export function readMamba2Config(json: ConfigJson, file: string, onWarning: OnWarning): Mamba2Config {
  refuseQuantized(json, file);
  const official = !('model_type' in json) && 'ssm_cfg' in json;
  const config = official ? readOfficial(json, file) : readTransformers(json, file);
  warnOfUnread(json, { file, known: [...Object.keys((official ? officialSchema : transformersSchema).entries), endOfTextKey], onWarning });
  const endOfText = endOfTextOf(json, config.vocabularySize, file);
  return endOfText === undefined ? config : { ...config, endOfText };
}

function readTransformers(json: ConfigJson, file: string): Mamba2Config {
  const c = checked(transformersSchema, json, { file });
  const { hidden_size: dModel, expand = 2, head_dim: headSize = 64, num_heads: heads = 128 } = c;
  const dInner = innerOf(expand, dModel);
  if (heads * headSize !== dInner) {
    throw new CheckpointError(`is ${heads}, and head_dim is ${headSize}; expected a product of expand · hidden_size = ${dInner}`, { file, key: 'num_heads' });
  }
  return configOfFile(file, () =>
    mamba2Config({
      ...{ vocabularySize: c.vocab_size, dModel, layers: c.num_hidden_layers, dInner, headSize, groups: c.n_groups ?? 8, dState: c.state_size ?? 128 },
      ...{ dConv: c.conv_kernel ?? 4, projectionBias: c.use_bias ?? false, convBias: c.use_conv_bias ?? true, dtLimit: c.time_step_limit ?? [0, Infinity] },
      ...{ normEpsilon: c.layer_norm_epsilon ?? 1e-5, gatedNorm: { groups: 1 }, tiedHead: c.tie_word_embeddings ?? false },
      ...{ embeddingDeviation: c.initializer_range ?? 0.1, rescaleOutput: c.rescale_prenorm_residual ?? false },
      initialisation: { dtMin: c.time_step_min ?? 0.001, dtMax: c.time_step_max ?? 0.1, dtFloor: c.time_step_floor ?? 1e-4 },
    }),
  );
}

function readOfficial(json: ConfigJson, file: string): Mamba2Config {
  const c = checked(officialSchema, json, { file });
  const { d_model: dModel, ssm_cfg: s, attn_layer_idx: attentionLayers, pad_vocab_size_multiple: multiple = 8 } = c;
  const dInner = innerOf(s.expand ?? 2, dModel);
  const layers = [...new Set(attentionLayers ?? [])].sort((a, b) => a - b);
  const [aMin, aMax] = s.A_init_range ?? [1, 16];
  return configOfFile(file, () =>
    mamba2Config({
      ...{ vocabularySize: Math.ceil(c.vocab_size / multiple) * multiple, dModel, layers: c.n_layer, dInner, dSsm: s.d_ssm ?? dInner },
      ...{ dState: s.d_state ?? 128, dConv: s.d_conv ?? 4, headSize: s.headdim ?? 64, groups: s.ngroups ?? 1, skipPerChannel: s.D_has_hdim ?? false },
      ...{ gatedNorm: s.rmsnorm === false ? null : { normBeforeGate: s.norm_before_gate ?? false }, dtLimit: s.dt_limit ?? [0, Infinity] },
      ...{ projectionBias: s.bias ?? false, convBias: s.conv_bias ?? true, inner: innerMultiple * Math.ceil((c.d_intermediate ?? 0) / innerMultiple) },
      ...{ attentionLayers: layers, attention: layers.length === 0 ? null : readAttention(c.attn_cfg ?? {}, dModel, { file, key: 'attn_cfg' }) },
      ...{ norm: c.rms_norm === false ? 'layer' : 'rms', normEpsilon: c.layer_norm_epsilon ?? 1e-5, tiedHead: c.tie_embeddings ?? true },
      ...{ embeddingDeviation: c.initializer_range ?? 0.02, rescaleOutput: c.rescale_prenorm_residual ?? true },
      initialisation: { ...{ dtMin: s.dt_min ?? 0.001, dtMax: s.dt_max ?? 0.1, dtFloor: s.dt_init_floor ?? 1e-4 }, aMin, aMax, convBound: s.conv_init ?? null },
    }),
  );
}

/**
 * The config in transformers' dialect where that can say it, else in the official one.
 * @throws ArgumentError for a norm over several groups' channels in a model that transformers does not have
 */
export function writeMamba2Config(config: Mamba2Config): Record<string, unknown> {
  const { gatedNorm, groups } = config;
  const shared = {
    ...{ layer_norm_epsilon: config.normEpsilon, initializer_range: config.embeddingDeviation, rescale_prenorm_residual: config.rescaleOutput },
    ...{ [endOfTextKey]: endOfTextValue(config.endOfText), residual_in_fp32: true, dtype: 'float32' },
  };
  if (isOfTransformers(config)) {
    return {
      ...{ architectures: ['Mamba2ForCausalLM'], model_type: 'mamba2', vocab_size: config.vocabularySize, hidden_size: config.dModel },
      ...{ num_hidden_layers: config.layers, ...mixerWords(config), tie_word_embeddings: config.tiedHead, ...shared },
    };
  }
  if (gatedNorm !== null && gatedNorm.groups !== groups) {
    throw new ArgumentError({ operation: 'saveModel', argument: 'gatedNorm.groups', expected: `groups = ${groups}, as the official package has them`, got: String(gatedNorm.groups) });
  }
  return {
    ...{ d_model: config.dModel, d_intermediate: config.inner, n_layer: config.layers, vocab_size: config.vocabularySize },
    ...{ ssm_cfg: { layer: 'Mamba2', ...layerWords(config) }, attn_layer_idx: config.attentionLayers, attn_cfg: config.attention === null ? {} : attentionWords(config.attention) },
    ...{ rms_norm: config.norm === 'rms', pad_vocab_size_multiple: 1, tie_embeddings: config.tiedHead, ...shared },
  };
}

/** Whether transformers has such a model. */
function isOfTransformers(config: Mamba2Config): boolean {
  const { gatedNorm, dInner, dSsm, skipPerChannel, attention, inner, norm } = config;
  const plain = attention === null && inner === 0 && norm === 'rms' && dInner === dSsm && !skipPerChannel;
  return plain && gatedNorm?.groups === 1 && !gatedNorm.normBeforeGate && headsOf(config) * config.headSize === dInner;
}
