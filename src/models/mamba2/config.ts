import { unitMultiple } from '../../mixers/attention/config-words.js';
import { attentionMatrixSize, attentionProblem, type AttentionConfig } from '../../mixers/attention/config.js';
import { mamba2MixerConfig, mixerMatrixSize, mixerProblem, type Mamba2MixerConfig, type Mamba2MixerOptions } from '../../mixers/mamba2/config.js';
import { sizeProblem } from '../../mixers/mamba/config.js';
import { ArgumentError, describeValue, type ArgumentProblem } from '../../util/errors.js';
import { endOfTextProblem, parameterProblem, type BaseConfig } from '../family.js';
import { attentionLayersProblem, partProblem } from '../mamba2-layers.js';

/** What a Mamba-2 language model looks like, with the official package's options: attention in some layers, a feed-forward layer in each. */
export interface Mamba2Config extends BaseConfig, Mamba2MixerConfig {
  /** The layers that hold attention in a Mamba-2 mixer's place, from 0, in order. */
  readonly attentionLayers: readonly number[];
  /** Null: no layer holds attention. */
  readonly attention: AttentionConfig | null;
  /** F: width of the feed-forward layer after each mixer; 0: there is none. */
  readonly inner: number;
  readonly norm: 'rms' | 'layer';
  /** Of all norms. */
  readonly normEpsilon: number;
  /** Standard deviation of the initial embeddings. */
  readonly embeddingDeviation: number;
  /** Whether what is added to the stream begins smaller, by the root of how often something is. */
  readonly rescaleOutput: boolean;
}

/** What `mamba2Config` is told; what is left out has the published default. */
export type Mamba2ConfigOptions = Pick<Mamba2Config, 'vocabularySize' | 'dModel' | 'layers'> & Partial<Omit<Mamba2Config, keyof Mamba2MixerConfig>> & Mamba2MixerOptions;

/** The largest sizes that a config may have. */
export const largestSizes = { vocabularySize: 2 ** 24, dModel: 2 ** 24, layers: 4096 } as const;

/** The official package rounds the width of feed-forward layers up to a multiple of this. */
export const innerMultiple = 128;

/** @throws ArgumentError when the sizes cannot be */
export function mamba2Config({ vocabularySize, layers, ...options }: Mamba2ConfigOptions): Mamba2Config {
  const { attentionLayers = [], attention = null, inner = 0, norm = 'rms', normEpsilon = 1e-5, embeddingDeviation = 0.02, rescaleOutput = true, ...rest } = options;
  const { tiedHead = true, endOfText = [], gatedNorm, ...mixer } = rest;
  const config: Mamba2Config = {
    ...mamba2MixerConfig({ ...mixer, gatedNorm: gatedNorm === null ? null : { epsilon: normEpsilon, ...gatedNorm } }),
    ...{ vocabularySize, layers, tiedHead, endOfText, attentionLayers, attention, inner, norm, normEpsilon, embeddingDeviation, rescaleOutput },
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'mamba2Config', ...problem });
  return config;
}

/** What is wrong with a config. */
export function problemOf(config: Mamba2Config): ArgumentProblem | undefined {
  const { vocabularySize, dModel, layers, tiedHead, inner, attention, attentionLayers } = config;
  const sizes = sizeProblem(config, largestSizes) ?? mixerProblem(config);
  if (sizes !== undefined) return sizes;
  const listed = attentionLayersProblem(attentionLayers, layers);
  if (listed !== undefined) return listed;
  if ((attention === null) !== (attentionLayers.length === 0)) {
    return { argument: 'attention', expected: attention === null ? 'the sizes of the layers that hold it' : 'null, where no layer holds it', got: attention === null ? 'null' : 'sizes' };
  }
  const repeated = partProblem({
    'attention.dModel': [attention?.dModel ?? dModel, dModel],
    'gatedNorm.epsilon': [config.gatedNorm?.epsilon ?? config.normEpsilon, config.normEpsilon],
  });
  if (repeated !== undefined) return repeated;
  const multiples = { inner: [inner, innerMultiple], 'attention.unit': [attention?.unit ?? 0, unitMultiple] } as const;
  for (const [argument, [value, of]] of Object.entries(multiples)) {
    if (!(Number.isInteger(value) && value >= 0 && value <= 2 ** 24 && value % of === 0)) return { argument, expected: `a multiple of ${of}, or 0`, got: describeValue(value) };
  }
  const attending = attention === null ? 0 : attentionLayers.length * attentionMatrixSize(attention);
  const parameters = (tiedHead ? 1 : 2) * vocabularySize * dModel + attending + (layers - attentionLayers.length) * mixerMatrixSize(config) + layers * 3 * dModel * inner;
  return (attention === null ? undefined : attentionProblem(attention)) ?? parameterProblem(parameters) ?? endOfTextProblem(config);
}
