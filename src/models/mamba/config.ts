import * as v from 'valibot';
import { ArgumentError, CheckpointError } from '../../util/errors.js';

/** What a Mamba language model looks like. Letters: see docs/GLOSSARY. */
export interface MambaConfig {
  /** V: number of token ids. */
  readonly vocabularySize: number;
  /** D */
  readonly dModel: number;
  readonly layers: number;
  /** N: states per channel. */
  readonly dState: number;
  /** K: width of the convolution. */
  readonly dConv: number;
  /** E: channels of a mixer; usually 2·D. */
  readonly dInner: number;
  /** R: rank of the step-size projection. */
  readonly dtRank: number;
  /**
   * What stands between convolution and gate: 's6', the selective scan, whose Δ, B and C are functions of the input; or
   * 'lti', the same recurrence with Δ, B and C as parameters (S4D-real), to see what selection is worth.
   */
  readonly ssm: 's6' | 'lti';
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon: number;
  /** Whether in_proj and out_proj have biases. */
  readonly projectionBias: boolean;
  readonly convBias: boolean;
  /** Whether the head uses the embedding's weights. */
  readonly tiedHead: boolean;
  readonly initialisation: MambaInitialisation;
}

/** How parameters start; see `mambaInitialisers`. */
export interface MambaInitialisation {
  /** Range of the step sizes softplus(dt_proj.bias). */
  readonly dtMin: number;
  readonly dtMax: number;
  /** The smallest step size allowed after drawing. */
  readonly dtFloor: number;
  /** Factor on the bound R^−½ of dt_proj.weight. */
  readonly dtScale: number;
  /** Whether dt_proj.weight is uniform in ± its bound or the bound itself. */
  readonly dtInit: 'random' | 'constant';
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
  /** Whether out_proj.weight is divided by √layers. */
  readonly rescaleOutput: boolean;
}

const defaultInitialisation: MambaInitialisation = {
  dtMin: 0.001,
  dtMax: 0.1,
  dtFloor: 1e-4,
  dtScale: 1,
  dtInit: 'random',
  embeddingDeviation: 0.02,
  rescaleOutput: true,
};

/**
 * A config with the published defaults: d_state 16, d_conv 4, expand 2, dt_rank ⌈D/16⌉, RMS norm, tied head.
 * @throws ArgumentError when a size is not a positive integer
 */
export function mambaConfig(
  options: Pick<MambaConfig, 'vocabularySize' | 'dModel' | 'layers'> &
    Partial<Omit<MambaConfig, 'initialisation'>> & { expand?: number; initialisation?: Partial<MambaInitialisation> },
): MambaConfig {
  const { expand = 2, initialisation, ...rest } = options;
  const config: MambaConfig = {
    dState: 16,
    dConv: 4,
    dInner: expand * options.dModel,
    dtRank: Math.ceil(options.dModel / 16),
    ssm: 's6',
    norm: 'rms',
    normEpsilon: 1e-5,
    projectionBias: false,
    convBias: true,
    tiedHead: true,
    ...rest,
    initialisation: { ...defaultInitialisation, ...initialisation },
  };
  for (const key of ['vocabularySize', 'dModel', 'layers', 'dState', 'dConv', 'dInner', 'dtRank'] as const) {
    if (Number.isInteger(config[key]) && config[key] > 0) continue;
    throw new ArgumentError(`mambaConfig: ${key} is ${String(config[key])}; expected a positive integer`);
  }
  return config;
}

const size = v.pipe(v.number(), v.integer(), v.minValue(1));
const rank = v.optional(v.union([v.literal('auto'), size]), 'auto');

/** The `model_type` of LTI models, which transformers does not have: other programs refuse it by name. */
const ltiType = 'elapid-mamba-lti';

/** config.json as transformers writes it for `MambaForCausalLM`. */
const transformersSchema = v.object({
  model_type: v.picklist(['mamba', ltiType]),
  vocab_size: size,
  hidden_size: size,
  num_hidden_layers: size,
  state_size: v.optional(size, 16),
  conv_kernel: v.optional(size, 4),
  expand: v.optional(v.number(), 2),
  intermediate_size: v.optional(size),
  time_step_rank: rank,
  layer_norm_epsilon: v.optional(v.number(), 1e-5),
  use_bias: v.optional(v.boolean(), false),
  use_conv_bias: v.optional(v.boolean(), true),
  hidden_act: v.optional(v.literal('silu'), 'silu'),
  tie_word_embeddings: v.optional(v.boolean(), true),
  initializer_range: v.optional(v.number(), 0.1),
  time_step_scale: v.optional(v.number(), 1),
  time_step_min: v.optional(v.number(), 0.001),
  time_step_max: v.optional(v.number(), 0.1),
  time_step_init_scheme: v.optional(v.picklist(['random', 'uniform', 'constant']), 'random'),
  time_step_floor: v.optional(v.number(), 1e-4),
  rescale_prenorm_residual: v.optional(v.boolean(), false),
});

/** config.json of the official implementation (state-spaces/mamba, `MambaConfig`). */
const officialSchema = v.object({
  d_model: size,
  n_layer: size,
  vocab_size: size,
  d_intermediate: v.optional(v.literal(0), 0),
  ssm_cfg: v.optional(
    v.strictObject({
      layer: v.optional(v.literal('Mamba1')),
      d_state: v.optional(size, 16),
      d_conv: v.optional(size, 4),
      expand: v.optional(v.number(), 2),
      dt_rank: rank,
      dt_min: v.optional(v.number(), 0.001),
      dt_max: v.optional(v.number(), 0.1),
      dt_init: v.optional(v.picklist(['random', 'constant']), 'random'),
      dt_scale: v.optional(v.number(), 1),
      dt_init_floor: v.optional(v.number(), 1e-4),
      conv_bias: v.optional(v.boolean(), true),
      bias: v.optional(v.boolean(), false),
      use_fast_path: v.optional(v.boolean()),
    }),
    {},
  ),
  attn_layer_idx: v.optional(v.pipe(v.array(size), v.length(0)), []),
  rms_norm: v.optional(v.boolean(), true),
  pad_vocab_size_multiple: v.optional(size, 8),
  tie_embeddings: v.optional(v.boolean(), true),
});

/**
 * Reads a config.json of either dialect: transformers' (`model_type: "mamba"`) or the official one (`d_model`, `ssm_cfg`).
 * @param file its path, for messages
 * @throws CheckpointError naming the key that is missing, wrong, or asks for what this model is not
 */
export function parseMambaConfig(json: unknown, file: string): MambaConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new CheckpointError('expected a JSON object', { file });
  }
  return 'model_type' in json ? fromTransformers(parse(transformersSchema, json, file)) : fromOfficial(parse(officialSchema, json, file));
}

function parse<const S extends v.GenericSchema>(schema: S, json: object, file: string): v.InferOutput<S> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new CheckpointError(`is ${issue.received}; expected ${issue.expected ?? 'another value'} for a Mamba model`, {
    file,
    key: v.getDotPath(issue) ?? '(root)',
  });
}

function fromTransformers(c: v.InferOutput<typeof transformersSchema>): MambaConfig {
  return mambaConfig({
    vocabularySize: c.vocab_size,
    dModel: c.hidden_size,
    layers: c.num_hidden_layers,
    dState: c.state_size,
    dConv: c.conv_kernel,
    dInner: c.intermediate_size ?? Math.floor(c.expand * c.hidden_size),
    dtRank: rankOf(c.time_step_rank, c.hidden_size),
    ssm: c.model_type === ltiType ? 'lti' : 's6',
    normEpsilon: c.layer_norm_epsilon,
    projectionBias: c.use_bias,
    convBias: c.use_conv_bias,
    tiedHead: c.tie_word_embeddings,
    initialisation: {
      dtMin: c.time_step_min,
      dtMax: c.time_step_max,
      dtFloor: c.time_step_floor,
      dtScale: c.time_step_scale,
      dtInit: c.time_step_init_scheme === 'constant' ? 'constant' : 'random',
      embeddingDeviation: c.initializer_range,
      rescaleOutput: c.rescale_prenorm_residual,
    },
  });
}

function fromOfficial(c: v.InferOutput<typeof officialSchema>): MambaConfig {
  const { ssm_cfg: s, pad_vocab_size_multiple: multiple } = c;
  return mambaConfig({
    vocabularySize: Math.ceil(c.vocab_size / multiple) * multiple,
    dModel: c.d_model,
    layers: c.n_layer,
    dState: s.d_state,
    dConv: s.d_conv,
    dInner: Math.floor(s.expand * c.d_model),
    dtRank: rankOf(s.dt_rank, c.d_model),
    norm: c.rms_norm ? 'rms' : 'layer',
    projectionBias: s.bias,
    convBias: s.conv_bias,
    tiedHead: c.tie_embeddings,
    initialisation: {
      dtMin: s.dt_min,
      dtMax: s.dt_max,
      dtFloor: s.dt_init_floor,
      dtScale: s.dt_scale,
      dtInit: s.dt_init,
    },
  });
}

const rankOf = (value: number | 'auto', dModel: number) => (value === 'auto' ? Math.ceil(dModel / 16) : value);

/**
 * The config in transformers' dialect, as `config.json` holds it; an LTI model has a `model_type` of its own.
 * @throws ArgumentError for layer norm, which transformers' Mamba does not have
 */
export function toTransformersConfig(config: MambaConfig): Record<string, unknown> {
  if (config.norm !== 'rms') {
    throw new ArgumentError("toTransformersConfig: norm is 'layer'; expected 'rms', the only one of transformers' Mamba");
  }
  const { initialisation: i } = config;
  return {
    ...(config.ssm === 's6' ? { architectures: ['MambaForCausalLM'], model_type: 'mamba' } : { model_type: ltiType }),
    vocab_size: config.vocabularySize,
    hidden_size: config.dModel,
    num_hidden_layers: config.layers,
    state_size: config.dState,
    conv_kernel: config.dConv,
    expand: config.dInner / config.dModel,
    intermediate_size: config.dInner,
    time_step_rank: config.dtRank,
    layer_norm_epsilon: config.normEpsilon,
    use_bias: config.projectionBias,
    use_conv_bias: config.convBias,
    hidden_act: 'silu',
    tie_word_embeddings: config.tiedHead,
    residual_in_fp32: true,
    initializer_range: i.embeddingDeviation,
    time_step_scale: i.dtScale,
    time_step_min: i.dtMin,
    time_step_max: i.dtMax,
    time_step_init_scheme: i.dtInit,
    time_step_floor: i.dtFloor,
    rescale_prenorm_residual: i.rescaleOutput,
    dtype: 'float32',
  };
}
