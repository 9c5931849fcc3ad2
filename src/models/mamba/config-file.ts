/** config.json of Mamba, read and written. */
import * as v from 'valibot';
import { attentionSchema } from '../../mixers/attention/config-words.js';
import { mixerSchema, mixerWords, rankSchema } from '../../mixers/mamba/config-words.js';
import { ArgumentError, CheckpointError } from '../../util/errors.js';
import { checked, epsilon, flag, ratio, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { agreement, configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, refuseQuantized, warnOfUnread } from '../config-reading.js';
import type { ConfigJson } from '../family.js';
import { largestSizes } from '../mamba-layers.js';
import { mambaConfig, type MambaConfig, type MambaConfigOptions } from './config.js';

/** The `model_type` of LTI models, which transformers does not have: other programs refuse it by name. */
export const ltiType = 'elapid-mamba-lti';

/** Arguments of the official `Mamba` layer. */
const ssmSchema = v.nullish(
  v.strictObject({
    layer: v.optional(v.literal('Mamba1')),
    d_state: size(largestSizes.dState),
    d_conv: size(largestSizes.dConv),
    expand: ratio,
    dt_rank: rankSchema,
    dt_min: real,
    dt_max: real,
    dt_init: v.optional(v.picklist(['random', 'constant'])),
    dt_scale: real,
    dt_init_floor: real,
    conv_bias: flag,
    bias: flag,
    use_fast_path: flag,
  }),
  {},
);

const nothing = (what: string) =>
  v.custom<unknown>((value) => value === null || value === 0 || (Array.isArray(value) && value.length === 0), what);

/** Arguments of the official attention layer: no layer is one, so that they say nothing, but a strange key says that more is meant. */
const unusedAttentionSchema = v.nullish(v.strictObject(Object.fromEntries(Object.keys(attentionSchema.entries).map((key) => [key, v.optional(v.unknown())]))));

/**
 * The keys that are read, in transformers' words and in those of the official implementation (state-spaces/mamba). Converted
 * checkpoints have both, so both are read from every file, and must say the same.
 */
const schema = v.object({
  model_type: v.optional(v.picklist(['mamba', ltiType])),
  vocab_size: size(largestSizes.vocabularySize),
  hidden_size: size(largestSizes.dModel),
  d_model: size(largestSizes.dModel),
  num_hidden_layers: size(largestSizes.layers),
  n_layer: size(largestSizes.layers),
  ...mixerSchema,
  d_inner: size(largestSizes.dInner),
  layer_norm_epsilon: epsilon,
  tie_word_embeddings: flag,
  tie_embeddings: flag,
  initializer_range: real,
  rms_norm: flag,
  ssm_cfg: ssmSchema,
  attn_cfg: unusedAttentionSchema,
  attn_layer_idx: v.optional(nothing('an empty list: attention layers are not supported')),
  d_intermediate: v.optional(nothing('0: blocks with an MLP are not supported')),
  pad_vocab_size_multiple: size(largestSizes.vocabularySize),
  residual_in_fp32: flag,
  fused_add_norm: flag,
});

type ConfigFile = v.InferOutput<typeof schema>;

/**
 * Reads a config.json of either dialect: transformers' (`model_type: "mamba"`) or the official one (`d_model`, `ssm_cfg`).
 * @param file its path, for messages
 * @param onWarning told of each key that has no effect here
 * @throws CheckpointError naming the key that is missing or wrong, that contradicts another, or that asks for what this model is not
 */
export function readMambaConfig(json: ConfigJson, file: string, onWarning: OnWarning): MambaConfig {
  const transformers = isTransformers(json);
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const s = c.ssm_cfg;
  const agreed = <T>(...settings: [key: string, value: T | undefined][]) => agreement(file, settings);
  const required = (what: string, ...settings: [key: string, value: number | undefined][]): number => {
    const value = agreed(...settings);
    if (value !== undefined) return value;
    throw new CheckpointError(`is missing; expected ${what}`, { file, key: settings[transformers ? 0 : settings.length - 1]?.[0] ?? '' });
  };
  if (transformers && c.rms_norm === false) {
    throw new CheckpointError("is false; expected true: transformers' Mamba has no other norm", { file, key: 'rms_norm' });
  }
  const dModel = required('the width of the residual stream', ['hidden_size', c.hidden_size], ['d_model', c.d_model]);
  const vocabulary = required('the number of token ids', ['vocab_size', c.vocab_size]);
  const multiple = transformers ? 1 : (c.pad_vocab_size_multiple ?? 8);
  const rankOf = (value: number | 'auto' | undefined) => (value === 'auto' ? Math.ceil(dModel / 16) : value);
  const options: MambaConfigOptions = {
    vocabularySize: Math.ceil(vocabulary / multiple) * multiple,
    dModel,
    layers: required('the number of layers', ['num_hidden_layers', c.num_hidden_layers], ['n_layer', c.n_layer]),
    dState: agreed(['state_size', c.state_size], ['ssm_cfg.d_state', s.d_state]) ?? 16,
    dConv: agreed(['conv_kernel', c.conv_kernel], ['ssm_cfg.d_conv', s.d_conv]) ?? 4,
    dInner: innerOf(c, dModel, file),
    dtRank: agreed(['time_step_rank', rankOf(c.time_step_rank)], ['ssm_cfg.dt_rank', rankOf(s.dt_rank)]) ?? Math.ceil(dModel / 16),
    ssm: c.model_type === ltiType ? 'lti' : 's6',
    norm: c.rms_norm === false ? 'layer' : 'rms',
    normEpsilon: c.layer_norm_epsilon ?? 1e-5,
    projectionBias: agreed(['use_bias', c.use_bias], ['ssm_cfg.bias', s.bias]) ?? false,
    convBias: agreed(['use_conv_bias', c.use_conv_bias], ['ssm_cfg.conv_bias', s.conv_bias]) ?? true,
    tiedHead: agreed(['tie_word_embeddings', c.tie_word_embeddings], ['tie_embeddings', c.tie_embeddings]) ?? true,
    initialisation: {
      dtMin: c.time_step_min ?? s.dt_min ?? 0.001,
      dtMax: c.time_step_max ?? s.dt_max ?? 0.1,
      dtFloor: c.time_step_floor ?? s.dt_init_floor ?? 1e-4,
      dtScale: c.time_step_scale ?? s.dt_scale ?? 1,
      dtInit: (c.time_step_init_scheme ?? s.dt_init) === 'constant' ? 'constant' : 'random',
      embeddingDeviation: c.initializer_range ?? (transformers ? 0.1 : 0.02),
      rescaleOutput: c.rescale_prenorm_residual ?? !transformers,
    },
  };
  const endOfText = endOfTextOf(json, options.vocabularySize, file);
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  return configOfFile(file, () => mambaConfig({ ...options, ...(endOfText === undefined ? {} : { endOfText }) }));
}

/** Whether the dialect is transformers'; where a file says neither `model_type` nor `d_model`, it may say so in `architectures`. */
const isTransformers = (json: ConfigJson): boolean => 'model_type' in json || !('d_model' in json);

/** Whether a config.json without a `model_type` is Mamba's: the official package's files differ by the layers that they name. */
export function isMambaConfig({ d_model: width, ssm_cfg: layer, architectures, n_experts: experts }: ConfigJson): boolean {
  if (experts !== undefined || (layer as { layer?: unknown } | null | undefined)?.layer === 'Mamba2') return false;
  return width !== undefined || (Array.isArray(architectures) && architectures.includes('MambaForCausalLM'));
}

/** E: said outright, or as a multiple of D, rounded down. */
function innerOf(c: ConfigFile, dModel: number, file: string): number {
  const given = agreement(file, [['intermediate_size', c.intermediate_size], ['d_inner', c.d_inner]]);
  const expand = agreement(file, [['expand', c.expand], ['ssm_cfg.expand', c.ssm_cfg.expand]]);
  if (given === undefined) {
    const inner = Math.floor((expand ?? 2) * dModel);
    if (inner >= 1 && inner <= largestSizes.dInner) return inner;
    const [key, most] = [c.expand === undefined ? 'ssm_cfg.expand' : 'expand', String(largestSizes.dInner)];
    throw new CheckpointError(`makes ${inner} channels of a width of ${dModel}; expected 1 to ${most}`, { file, key });
  }
  // A multiple that was worked out by division may be off by its last digit.
  if (expand === undefined || Math.abs(expand * dModel - given) < 1) return given;
  const product = `${expand}·${dModel} = ${Math.floor(expand * dModel)}`;
  const key = c.intermediate_size === undefined ? 'd_inner' : 'intermediate_size';
  throw new CheckpointError(`is ${given}, but expand · width is ${product}; expected the same`, { file, key });
}

/**
 * The config in transformers' dialect; with layer norms, which its Mamba does not have, in the official one. An LTI model has a
 * `model_type` of its own.
 * @throws ArgumentError for an LTI model with layer norms
 */
export function writeMambaConfig(config: MambaConfig): Record<string, unknown> {
  const { norm, ssm } = config;
  const shared = {
    ...{ layer_norm_epsilon: config.normEpsilon, initializer_range: config.initialisation.embeddingDeviation },
    ...{ [endOfTextKey]: endOfTextValue(config.endOfText), residual_in_fp32: true, dtype: 'float32' },
  };
  if (norm === 'layer') return { ...officialWords(config), ...shared };
  return {
    ...(ssm === 's6' ? { architectures: ['MambaForCausalLM'], model_type: 'mamba' } : { model_type: ltiType }),
    ...{ vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers },
    ...{ ...mixerWords(config), tie_word_embeddings: config.tiedHead, ...shared },
  };
}

/** A model with layer norms in the words of the official package. */
function officialWords(config: MambaConfig): Record<string, unknown> {
  const { dModel, dInner, initialisation: i } = config;
  if (config.ssm !== 's6') {
    throw new ArgumentError({ operation: 'saveModel', argument: 'norm', expected: "'rms', the only one of time-invariant models in files", got: "'layer'" });
  }
  const layer = {
    ...{ layer: 'Mamba1', d_state: config.dState, d_conv: config.dConv, expand: dInner / dModel, dt_rank: config.dtRank },
    ...{ dt_min: i.dtMin, dt_max: i.dtMax, dt_init: i.dtInit, dt_scale: i.dtScale, dt_init_floor: i.dtFloor },
    ...{ conv_bias: config.convBias, bias: config.projectionBias },
  };
  return {
    ...{ d_model: dModel, d_intermediate: 0, n_layer: config.layers, vocab_size: config.vocabularySize, ssm_cfg: layer },
    // Beside the multiple, which division may have rounded.
    ...{ intermediate_size: dInner, rescale_prenorm_residual: i.rescaleOutput, rms_norm: false, pad_vocab_size_multiple: 1, tie_embeddings: config.tiedHead },
  };
}
