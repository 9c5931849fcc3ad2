import * as v from 'valibot';
import { sizeProblem } from '../../mixers/mamba/config.js';
import { GruMixer } from '../../mixers/gru/mixer.js';
import { ArgumentError, type ArgumentProblem } from '../../util/errors.js';
import { checked, epsilon, flag, real, size } from '../../util/schema.js';
import { stacked } from '../backbone.js';
import type { OnWarning } from '../config-keys.js';
import { configOfFile, endOfTextKey, endOfTextOf, endOfTextValue, expectOptions, refuseQuantized, warnOfUnread } from '../config-reading.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type ConfigJson, type ModelFamily } from '../family.js';

/** What a GRU language model looks like. */
export interface GruConfig extends BaseConfig {
  readonly normEpsilon: number;
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
}

const type = 'elapid-gru';

const largest = { vocabularySize: 2 ** 24, dModel: 2 ** 24, layers: 4096 } as const;

/** The keys of a config.json that are read. */
const schema = v.object({
  model_type: v.literal(type),
  vocab_size: v.nonOptional(size(largest.vocabularySize)),
  hidden_size: v.nonOptional(size(largest.dModel)),
  num_hidden_layers: v.nonOptional(size(largest.layers)),
  layer_norm_epsilon: epsilon,
  tie_word_embeddings: flag,
  initializer_range: real,
});

function gruConfig(options: Pick<GruConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<GruConfig>): GruConfig {
  const config = { normEpsilon: 1e-5, tiedHead: true, endOfText: [], embeddingDeviation: 0.02, ...options };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'gruConfig', ...problem });
  return config;
}

function problemOf(config: GruConfig): ArgumentProblem | undefined {
  const { vocabularySize, dModel, layers, tiedHead } = config;
  const parameters = () => (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * 6 * dModel ** 2;
  return sizeProblem(config, largest) ?? parameterProblem(parameters()) ?? endOfTextProblem(config);
}

function read(json: ConfigJson, file: string, onWarning: OnWarning): GruConfig {
  refuseQuantized(json, file);
  const c = checked(schema, json, { file });
  const endOfText = endOfTextOf(json, c.vocab_size, file);
  warnOfUnread(json, { file, known: [...Object.keys(schema.entries), endOfTextKey], onWarning });
  return configOfFile(file, () =>
    gruConfig({
      ...{ vocabularySize: c.vocab_size, dModel: c.hidden_size, layers: c.num_hidden_layers, normEpsilon: c.layer_norm_epsilon ?? 1e-5 },
      ...{ tiedHead: c.tie_word_embeddings ?? true, embeddingDeviation: c.initializer_range ?? 0.02, endOfText: endOfText ?? [] },
    }),
  );
}

function write(config: GruConfig): Record<string, unknown> {
  return {
    ...{ model_type: type, vocab_size: config.vocabularySize, hidden_size: config.dModel, num_hidden_layers: config.layers },
    ...{ layer_norm_epsilon: config.normEpsilon, tie_word_embeddings: config.tiedHead, [endOfTextKey]: endOfTextValue(config.endOfText) },
    ...{ initializer_range: config.embeddingDeviation, dtype: 'float32' },
  };
}

/**
 * Layers of gated recurrent units (`GruMixer`), each behind an RMS norm and added to the residual stream: what came before selective
 * states, in the same frame. The form of config.json and of the keys is this package's own; the weights of a layer are those of PyTorch's
 * `nn.GRU`.
 */
export const gruFamily: ModelFamily<GruConfig> = {
  name: 'gru',
  modelTypes: [type],
  ...{ read, write, problemOf },
  build: (parameters, config) =>
    stacked(parameters, config, {
      ...{ kind: 'rms', epsilon: config.normEpsilon, deviation: config.embeddingDeviation },
      mixer: (at) => new GruMixer(at, config),
    }),
  configOf(options) {
    expectOptions('gru', options, ['vocabularySize', 'dModel', 'layers', 'tiedHead', 'embeddingDeviation']);
    return gruConfig(options as unknown as GruConfig);
  },
  facts: ({ layers, dModel }) => [['layers', `${layers} GRU blocks, RMS norm`], ['sizes', `d_model ${dModel}`]],
};
