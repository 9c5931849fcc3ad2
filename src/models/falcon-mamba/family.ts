import * as v from 'valibot';
import { MambaMixer, mambaMixerConfig, type MambaMixerConfig } from '../../mixers/index.js';
import { mixerSchema, mixerWords } from '../../mixers/mamba/config-words.js';
import { largestMixerSizes, mixerMatrixSize, sizeProblem } from '../../mixers/mamba/config.js';
import { Block, Embedding, Linear, Norm, normal, type ParameterStore } from '../../nn/index.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type ConfigJson, type FamilyOptions, type ModelFamily, type Parts } from '../family.js';
import { ArgumentError, type ArgumentProblem } from '../../util/errors.js';

/** What a Falcon-Mamba looks like: a Mamba whose Δ, B and C are normed before use. */
export interface FalconMambaConfig extends BaseConfig, MambaMixerConfig {
  readonly normEpsilon: number;
  readonly selectionNormEpsilon: number;
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
}

const largestSizes = { vocabularySize: 2 ** 24, ...largestMixerSizes } as const;

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

function problemOf(config: FalconMambaConfig): ArgumentProblem | undefined {
  const { vocabularySize, dModel, layers, tiedHead } = config;
  const parameters = () => (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * mixerMatrixSize(config);
  return sizeProblem(config, largestSizes) ?? parameterProblem(parameters()) ?? endOfTextProblem(config);
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

function build(parameters: ParameterStore, config: FalconMambaConfig): Parts {
  const { vocabularySize, dModel, layers, normEpsilon, tiedHead, embeddingDeviation } = config;
  const backbone = parameters.at('backbone');
  const norm = { size: dModel, kind: 'rms', epsilon: normEpsilon } as const;
  const embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation: embeddingDeviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = backbone.at('layers').at(String(i));
    return new Block([{ name: 'mixer', mixer: new MambaMixer(layer.at('mixer'), config), norm: new Norm(layer.at('norm'), norm) }]);
  });
  const finalNorm = new Norm(backbone.at('norm_f'), norm);
  const options = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(embeddingDeviation) };
  return { embeddings, blocks, finalNorm, head: tiedHead ? null : new Linear(parameters.at('lm_head'), options) };
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
  ...{ read, write, problemOf, build, configOf },
  facts: ({ layers, dModel, dInner, dState, dConv, dtRank }) => [
    ['layers', `${layers} Mamba blocks with norms on Δ, B and C, RMS norm`],
    ['sizes', `d_model ${dModel}, d_inner ${dInner}, d_state ${dState}, d_conv ${dConv}, dt_rank ${dtRank}`],
  ],
};
