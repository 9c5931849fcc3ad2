import * as v from 'valibot';
import { mambaMixerConfig, type MambaMixerConfig } from '../../mixers/index.js';
import { mixerSchema, mixerWords } from '../../mixers/mamba/config-words.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import type { BaseConfig, ConfigJson, FamilyOptions, ModelFamily } from '../family.js';
import { build, largestSizes, problemOf, sizesFact } from '../mamba-layers.js';
import { ArgumentError } from '../../util/errors.js';

/** What a Falcon-Mamba looks like: a Mamba whose Δ, B and C are normed before use. */
export interface FalconMambaConfig extends BaseConfig, MambaMixerConfig {
  readonly normEpsilon: number;
  readonly selectionNormEpsilon: number;
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
}

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.optional(v.literal('falcon_mamba')),
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  hidden_size: v.nonOptional(size(largestSizes.dModel)),
  num_hidden_layers: v.nonOptional(size(largestSizes.layers)),
  ...mixerSchema,
  layer_norm_epsilon: epsilon,
  mixer_rms_eps: epsilon,
  tie_word_embeddings: flag,
  initializer_range: real,
  residual_in_fp32: flag,
  use_falcon_mambapy: flag,
});

/** What `falconMambaConfig` is told; what is left out has the default of transformers' `FalconMambaConfig`. */
type Options = Pick<FalconMambaConfig, 'vocabularySize' | 'dModel' | 'layers'> &
  Partial<Omit<FalconMambaConfig, 'initialisation'>> & { readonly expand?: number; readonly initialisation?: Partial<MambaMixerConfig['initialisation']> };

function falconMambaConfig({ vocabularySize, ...options }: Options): FalconMambaConfig {
  const { normEpsilon = 1e-5, selectionNormEpsilon = 1e-6, tiedHead = true, endOfText = [], embeddingDeviation = 0.1, ...rest } = options;
  const initialisation = { rescaleOutput: false, ...rest.initialisation };
  const mixer = mambaMixerConfig({ ...rest, selectionNormEpsilon, initialisation });
  const config = { ...mixer, vocabularySize, normEpsilon, selectionNormEpsilon, tiedHead, endOfText, embeddingDeviation };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'falconMambaConfig', ...problem });
  return config;
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): FalconMambaConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file);
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const { hidden_size: dModel, expand = 2, time_step_rank: rank = 'auto' } = c;
  return configOfFile(file, () =>
    falconMambaConfig({
      ...{ vocabularySize: c.vocab_size, dModel, layers: c.num_hidden_layers, dState: c.state_size ?? 16, dConv: c.conv_kernel ?? 4 },
      ...{ dInner: c.intermediate_size ?? Math.floor(expand * dModel), dtRank: rank === 'auto' ? Math.ceil(dModel / 16) : rank },
      ...{ normEpsilon: c.layer_norm_epsilon ?? 1e-5, selectionNormEpsilon: c.mixer_rms_eps ?? 1e-6 },
      ...{ projectionBias: c.use_bias ?? false, convBias: c.use_conv_bias ?? true, tiedHead: c.tie_word_embeddings ?? true },
      ...{ embeddingDeviation: c.initializer_range ?? 0.1, endOfText: endOfText ?? [] },
      initialisation: {
        ...{ dtMin: c.time_step_min ?? 0.001, dtMax: c.time_step_max ?? 0.1, dtFloor: c.time_step_floor ?? 1e-4, dtScale: c.time_step_scale ?? 1 },
        ...{ dtInit: c.time_step_init_scheme === 'constant' ? 'constant' : 'random', rescaleOutput: c.rescale_prenorm_residual ?? false },
      },
    }),
  );
}

function write(config: FalconMambaConfig): Record<string, unknown> {
  return {
    ...{ architectures: ['FalconMambaForCausalLM'], model_type: 'falcon_mamba' },
    ...{ vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers, ...mixerWords(config) },
    ...{ layer_norm_epsilon: config.normEpsilon, mixer_rms_eps: config.selectionNormEpsilon, tie_word_embeddings: config.tiedHead },
    ...{ [endOfTextKey]: endOfTextValue(config.endOfText), residual_in_fp32: true, initializer_range: config.embeddingDeviation, dtype: 'float32' },
  };
}

/** Of tiiuae/falcon-mamba-7b. */
const sizesOf7b = { vocabularySize: 65024, dModel: 4096, layers: 64, tiedHead: false };

function configOf(options: FamilyOptions): FalconMambaConfig {
  const known = ['vocabularySize', 'size', 'dModel', 'layers', 'dState', 'dConv', 'expand', 'dtRank', 'embeddingDeviation'];
  expectOptions('falcon-mamba', options, known);
  const { size: name, ...sizes } = options;
  if (name !== undefined && name !== '7b') throw new ArgumentError({ operation: 'configOf (falcon-mamba)', argument: 'size', expected: "'7b'", got: `'${String(name)}'` });
  return falconMambaConfig({ ...(name === undefined ? {} : sizesOf7b), ...(sizes as unknown as Options) });
}

/**
 * Falcon-Mamba ("Falcon Mamba: The First Competitive Attention-free 7B Language Model"): Mamba with RMS norms, without weights, on
 * what Δ, B and C are made of. Keys and config.json as in transformers' `FalconMambaForCausalLM`.
 */
export const falconMambaFamily: ModelFamily<FalconMambaConfig> = {
  name: 'falcon-mamba',
  modelTypes: ['falcon_mamba'],
  recognises: ({ architectures }) => Array.isArray(architectures) && architectures.includes('FalconMambaForCausalLM'),
  sizes: ['7b'],
  ...{ read, write, problemOf, configOf },
  build: (parameters, config) => build(parameters, config, { kind: 'rms', epsilon: config.normEpsilon, deviation: config.embeddingDeviation }),
  facts: (config) => [['layers', `${config.layers} Mamba blocks with norms on Δ, B and C, RMS norm`], sizesFact(config)],
};
