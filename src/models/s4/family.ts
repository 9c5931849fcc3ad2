import * as v from 'valibot';
import { S4Block } from '../../mixers/s4/block.js';
import { s4Defaults, s4Problem, type S4Config, type S4Init } from '../../mixers/s4/config.js';
import { sizeProblem } from '../../mixers/mamba/config.js';
import { ArgumentError, type ArgumentProblem } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import { stacked } from '../backbone.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type ConfigJson, type ModelFamily } from '../family.js';

/** What of a block a language model can choose. */
type BlockOptions = Pick<S4Config, 'dState' | 'channels' | 'init' | 'sets' | 'discretization' | 'dtTransform' | 'dtMin' | 'dtMax' | 'dtTied' | 'real' | 'kernelLength'>;

/** What an S4 or S4D language model looks like. */
export interface S4ModelConfig extends BaseConfig, BlockOptions {
  readonly normEpsilon: number;
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
}

const largest = { vocabularySize: 2 ** 24, dModel: 2 ** 24, layers: 4096 } as const;

const positive = v.optional(v.pipe(v.number(), v.gtValue(0), v.finite()));

/** The keys of a config.json that are read; those of a block are the official code's. */
const entries = {
  vocab_size: v.nonOptional(size(largest.vocabularySize)),
  d_model: v.nonOptional(size(largest.dModel)),
  n_layer: v.nonOptional(size(largest.layers)),
  d_state: size(2 ** 16),
  channels: size(2 ** 16),
  init: v.optional(v.string()),
  n_ssm: size(largest.dModel),
  disc: v.optional(v.picklist(['zoh', 'bilinear'])),
  dt_transform: v.optional(v.picklist(['exp', 'softplus'])),
  dt_min: positive,
  dt_max: positive,
  dt_tie: flag,
  is_real: flag,
  l_kernel: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  layer_norm_epsilon: epsilon,
  tie_word_embeddings: flag,
  initializer_range: real,
};

/** The blocks' config. */
const blockOf = (config: S4ModelConfig): S4Config => {
  const { dModel, dState, channels, init, sets, discretization, dtTransform, dtMin, dtMax, dtTied, real: isReal, kernelLength } = config;
  return s4Defaults({ dModel, dState, channels, init, sets, discretization, dtTransform, dtMin, dtMax, dtTied, real: isReal, kernelLength });
};

type Options = Pick<S4ModelConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<S4ModelConfig>;

/** Options that were not given are left out: a default is what stands for them. */
const given = <T extends object>(options: T): T => Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;

/**
 * Layers of S4 blocks (`S4Block`), each behind an RMS norm and added to the residual stream. The form of config.json and of the keys around
 * the blocks is this package's own; keys within a block are the official code's.
 */
function familyOf(name: 's4' | 's4d', usualInit: S4Init, title: string): ModelFamily<S4ModelConfig> {
  const type = `elapid-${name}`;
  const schema = v.object({ model_type: v.literal(type), ...entries });
  const isOfFamily = (init: string) => init.startsWith('diag-') === (name === 's4d');

  function problemOf(config: S4ModelConfig): ArgumentProblem | undefined {
    const { vocabularySize, dModel, layers, tiedHead, dState, channels, init } = config;
    const sizes = sizeProblem(config, largest);
    if (sizes !== undefined) return sizes;
    if (!isOfFamily(init)) return { argument: 'init', expected: `one of the family ${name}`, got: init };
    const parameters = () => (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * (2 * channels * dModel ** 2 + channels * dModel * dState);
    return s4Problem(blockOf(config)) ?? parameterProblem(parameters()) ?? endOfTextProblem(config);
  }

  function configOf(options: Options): S4ModelConfig {
    const { vocabularySize, dModel, layers, ...own } = given(options);
    const block = s4Defaults({ dModel, init: usualInit });
    const config: S4ModelConfig = {
      ...{ vocabularySize, dModel, layers, dState: block.dState, channels: 1, init: usualInit, sets: block.sets, discretization: block.discretization },
      ...{ dtTransform: block.dtTransform, dtMin: block.dtMin, dtMax: block.dtMax, dtTied: block.dtTied, real: false, kernelLength: 0 },
      ...{ normEpsilon: 1e-5, tiedHead: true, endOfText: [], embeddingDeviation: 0.02 },
      ...own,
    };
    const problem = problemOf(config);
    if (problem !== undefined) throw new ArgumentError({ operation: `configOf (${name})`, ...problem });
    return config;
  }

  return {
    name,
    modelTypes: [type],
    problemOf,
    read(json: ConfigJson, file: string, onWarning: OnWarning): S4ModelConfig {
      refuseQuantized(json, file);
      const c = checked(schema, json, { file });
      const endOfText = endOfTextOf(json, c.vocab_size, file);
      warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
      return configOfFile(file, () =>
        configOf({
          ...{ vocabularySize: c.vocab_size, dModel: c.d_model, layers: c.n_layer, endOfText: endOfText ?? [] },
          ...(given({
            ...{ dState: c.d_state, channels: c.channels, init: c.init as S4Init | undefined, sets: c.n_ssm, discretization: c.disc, dtTransform: c.dt_transform },
            ...{ dtMin: c.dt_min, dtMax: c.dt_max, dtTied: c.dt_tie, real: c.is_real, kernelLength: c.l_kernel },
            ...{ normEpsilon: c.layer_norm_epsilon, tiedHead: c.tie_word_embeddings, embeddingDeviation: c.initializer_range },
          }) as Partial<S4ModelConfig>),
        }),
      );
    },
    write: (config) => ({
      ...{ model_type: type, vocab_size: config.vocabularySize, d_model: config.dModel, n_layer: config.layers, d_state: config.dState },
      ...{ channels: config.channels, init: config.init, n_ssm: config.sets, disc: config.discretization, dt_transform: config.dtTransform },
      ...{ dt_min: config.dtMin, dt_max: config.dtMax, dt_tie: config.dtTied, is_real: config.real, l_kernel: config.kernelLength },
      ...{ layer_norm_epsilon: config.normEpsilon, tie_word_embeddings: config.tiedHead, [endOfTextKey]: endOfTextValue(config.endOfText) },
      ...{ initializer_range: config.embeddingDeviation, dtype: 'float32' },
    }),
    build: (parameters, config) =>
      stacked(parameters, config, {
        ...{ kind: 'rms', epsilon: config.normEpsilon, deviation: config.embeddingDeviation },
        mixer: (at) => new S4Block(at, blockOf(config)),
      }),
    configOf(options) {
      expectOptions(name, options, ['vocabularySize', 'dModel', 'layers', 'dState', 'channels', 'init', 'tiedHead', 'embeddingDeviation']);
      return configOf(options as unknown as Options);
    },
    facts: ({ layers, dModel, dState, init, discretization, kernelLength }) => [
      ['layers', `${layers} ${title} blocks, RMS norm`],
      ['sizes', `d_model ${dModel}, d_state ${dState}`],
      ['state space', `${init}, ${discretization}${kernelLength === 0 ? '' : `, C of kernels of ${kernelLength} positions`}`],
    ],
  };
}

/** S4D: diagonal state spaces, as a convolution in training and as a recurrence in generation. */
export const s4dFamily = familyOf('s4d', 'diag-lin', 'S4D');

/** S4: the same with state spaces that are a diagonal plus low rank. */
export const s4Family = familyOf('s4', 'legs', 'S4');
