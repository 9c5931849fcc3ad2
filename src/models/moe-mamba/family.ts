import * as v from 'valibot';
import { mambaMixerConfig, MambaMixer, type MambaMixerConfig } from '../../mixers/index.js';
import { mixerMatrixSize, sizeProblem } from '../../mixers/mamba/config.js';
import { largestSwitchSizes, switchDefaults, switchMatrixSize, switchProblem, type SwitchConfig } from '../../mixers/switch/config.js';
import { expertsFact, switchSchema, switchWords } from '../../mixers/switch/config-words.js';
import { Switch } from '../../mixers/switch/mixer.js';
import { Block, Embedding, Linear, Norm, normal, type ParameterStore, type Sublayer } from '../../nn/index.js';
import { ArgumentError, type ArgumentProblem } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, sizeNamed, warnOfUnread } from '../config-reading.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type ConfigJson, type FamilyKeys, type FamilyOptions, type ModelFamily, type Parts } from '../family.js';
import { largestSizes, sizesFact } from '../mamba-layers.js';

/** What a MoE-Mamba looks like. `layers` counts blocks, each of a Mamba mixer and a Switch layer. */
export interface MoeMambaConfig extends BaseConfig, MambaMixerConfig, SwitchConfig {
  /** Whether both read the same stream, instead of one after the other. */
  readonly parallel: boolean;
  readonly normEpsilon: number;
  /** Standard deviation of the initial embeddings and head. */
  readonly embeddingDeviation: number;
}

const type = 'elapid-moe-mamba';

const keys: FamilyKeys = {
  ...{ trunk: 'backbone', embedding: 'embedding', layers: 'blocks', finalNorm: 'norm_f', head: 'head' },
  // The official code's names of a layer of experts.
  renamed: [
    [/\bgating\.gate$/, 'gate'],
    [/\bexpert_inner_function\.(lin[12]_weight)$/, '$1'],
  ],
};

/** What the official code calls the only arrangement of norms that there is. */
const arrangement = 'layernorm eps 1e-5, pre-norm, no final norm';

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.optional(v.literal(type)),
  vocab_size: v.nonOptional(size(largestSizes.vocabularySize)),
  d_model: v.nonOptional(size(largestSizes.dModel)),
  n_blocks: v.nonOptional(size(largestSizes.layers)),
  d_state: size(largestSizes.dState),
  d_conv: size(largestSizes.dConv),
  expand: v.optional(v.pipe(v.number(), v.gtValue(0))),
  dt_rank: size(largestSizes.dtRank),
  ...switchSchema,
  n_experts: v.nonOptional(size(largestSwitchSizes.experts)),
  parallel: flag,
  norm: v.optional(v.literal(arrangement)),
  norm_epsilon: epsilon,
  tie_embeddings: flag,
  initializer_range: real,
});

type Options = Pick<MoeMambaConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<MoeMambaConfig> & { readonly expand?: number };

function moeMambaConfig({ expand, ...options }: Options): MoeMambaConfig {
  const mixer = mambaMixerConfig({ ...{ dModel: options.dModel, layers: options.layers }, ...(expand === undefined ? {} : { expand }) });
  const config: MoeMambaConfig = {
    ...{ ...mixer, ...switchDefaults },
    // As many weights a token as a Mamba mixer has: one is about 6·D², and so is an expert of this width.
    ...{ expertSize: 3 * options.dModel, parallel: false, normEpsilon: 1e-5, tiedHead: false, endOfText: [], embeddingDeviation: 0.02 },
    ...options,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'moeMambaConfig', ...problem });
  return config;
}

function problemOf(config: MoeMambaConfig): ArgumentProblem | undefined {
  const { vocabularySize, dModel, layers, tiedHead } = config;
  const parameters = () => (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * (mixerMatrixSize(config) + switchMatrixSize(config).total);
  return sizeProblem(config, largestSizes) ?? switchProblem(config) ?? parameterProblem(parameters()) ?? endOfTextProblem(config);
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): MoeMambaConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file) ?? [];
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  const given = { dState: c.d_state, dConv: c.d_conv, expand: c.expand, dtRank: c.dt_rank, capacityFactor: c.capacity_factor, balanceWeight: c.balance_weight, zWeight: c.z_weight };
  return configOfFile(file, () =>
    moeMambaConfig({
      ...{ vocabularySize: c.vocab_size, dModel: c.d_model, layers: c.n_blocks, experts: c.n_experts, expertSize: c.expert_size },
      ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
      ...{ parallel: c.parallel ?? false, normEpsilon: c.norm_epsilon ?? 1e-5, tiedHead: c.tie_embeddings ?? false, endOfText, embeddingDeviation: c.initializer_range ?? 0.02 },
    }),
  );
}

function write(config: MoeMambaConfig): Record<string, unknown> {
  const { dModel, dInner, ssm, projectionBias, convBias } = config;
  if (ssm !== 's6' || projectionBias || !convBias) {
    throw new ArgumentError({ operation: 'saveModel', argument: 'the mixer', expected: 'one that selects, with a bias of the convolution alone', got: 'another' });
  }
  return {
    ...{ model_type: type, vocab_size: config.vocabularySize, d_model: dModel, n_blocks: config.layers },
    ...{ d_state: config.dState, d_conv: config.dConv, expand: dInner / dModel, dt_rank: config.dtRank, ...switchWords(config) },
    ...{ parallel: config.parallel, norm_epsilon: config.normEpsilon, tie_embeddings: config.tiedHead, initializer_range: config.embeddingDeviation },
    ...{ [endOfTextKey]: endOfTextValue(config.endOfText), dtype: 'float32' },
  };
}

function build(parameters: ParameterStore, config: MoeMambaConfig): Parts {
  const { vocabularySize, dModel, layers, normEpsilon: epsilonOf, embeddingDeviation: deviation, parallel, tiedHead } = config;
  const trunk = parameters.at(keys.trunk);
  const norm = (at: ParameterStore) => new Norm(at, { size: dModel, kind: 'layer', epsilon: epsilonOf });
  const embeddings = new Embedding(trunk.at(keys.embedding), { count: vocabularySize, size: dModel, deviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = trunk.at(keys.layers).at(String(i));
    const mix: Sublayer = { name: 'mamba', norm: norm(layer.at('mamba_norm')), mixer: new MambaMixer(layer.at('mamba'), config) };
    const feed: Sublayer = { name: 'experts', norm: norm(layer.at('moe_norm')), mixer: new Switch(layer, config) };
    return new Block(parallel ? [[mix, feed]] : [mix, feed]);
  });
  const head = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(deviation) };
  return { embeddings, blocks, finalNorm: null, head: tiedHead ? null : new Linear(parameters.at(keys.head), head) };
}

/** Of the paper's table 5: blocks, width, experts. */
const sizes: Readonly<Record<string, Pick<MoeMambaConfig, 'layers' | 'dModel' | 'experts'>>> = {
  '25m': { layers: 8, dModel: 512, experts: 42 },
  '100m': { layers: 16, dModel: 768, experts: 42 },
};

function configOf(options: FamilyOptions): MoeMambaConfig {
  const own = ['experts', 'expertSize', 'capacityFactor', 'balanceWeight', 'zWeight', 'parallel', 'tiedHead', 'embeddingDeviation'];
  expectOptions('moe-mamba', options, ['vocabularySize', 'size', 'dModel', 'layers', 'dState', 'dConv', 'expand', 'dtRank', ...own]);
  const { size: name, ...rest } = options;
  if (name === undefined) return moeMambaConfig(rest as unknown as Options);
  return moeMambaConfig({ vocabularySize: 50257, ...sizeNamed('moe-mamba', sizes, name), ...rest });
}

/**
 * MoE-Mamba ("MoE-Mamba: Efficient Selective State Space Models with Mixture of Experts", Pióro et al. 2024): Mamba mixers and Switch layers in
 * turn, or side by side, behind layer norms, and no norm before the head. The form of config.json is this package's own; keys are those
 * of the official code's layers.
 */
export const moeMambaFamily: ModelFamily<MoeMambaConfig> = {
  name: 'moe-mamba',
  modelTypes: [type],
  recognises: (json) => 'n_experts' in json && 'n_blocks' in json && 'd_state' in json,
  keys,
  sizes: Object.keys(sizes),
  ...{ read, write, problemOf, build, configOf },
  facts: (config) => [
    ['layers', `${config.layers} blocks of Mamba and a Switch layer, ${config.parallel ? 'side by side' : 'one after the other'}, layer norm`],
    sizesFact(config),
    expertsFact(config),
  ],
};
