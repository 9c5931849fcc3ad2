/** What families share whose layers are attention and a feed-forward layer: sizes, checks, modules. */
import { AttentionMixer, type AttentionNames } from '../mixers/attention/mixer.js';
import { attentionMatrixSize, attentionProblem, largestAttentionSizes, type AttentionConfig } from '../mixers/attention/config.js';
import { FeedForward, type Activation, type FeedForwardConfig, type FeedForwardNames } from '../mixers/feed-forward/mixer.js';
import { Block, Embedding, Linear, Norm, normal, type Mixer, type ParameterStore, type Sublayer } from '../nn/index.js';
import { describeValue, type ArgumentProblem } from '../util/errors.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type Fact, type FamilyKeys, type Parts } from './family.js';

/** What the layers of a Transformer look like. */
export interface TransformerConfig extends BaseConfig, AttentionConfig {
  /** F: width of the feed-forward layers. */
  readonly inner: number;
  readonly activation: Activation;
  readonly feedForwardBias: boolean;
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon: number;
  readonly contextLength: number;
  /** Standard deviation of the initial weights. */
  readonly deviation: number;
}

/** The largest sizes that a config may have. */
export const largestSizes = { vocabularySize: 2 ** 24, dModel: 2 ** 16, layers: 4096, ...largestAttentionSizes, inner: 2 ** 20, contextLength: 2 ** 24 } as const;

/** What is wrong with a config. */
export function problemOf(config: TransformerConfig): ArgumentProblem | undefined {
  for (const [name, largest] of Object.entries(largestSizes)) {
    const value = config[name as keyof typeof largestSizes];
    if (!(Number.isInteger(value) && value >= 1 && value <= largest)) {
      return { argument: name, expected: `an integer from 1 to ${largest}`, got: describeValue(value) };
    }
  }
  const { vocabularySize, dModel, layers, inner, tiedHead } = config;
  const parameters = (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * (attentionMatrixSize(config) + 3 * dModel * inner);
  return attentionProblem(config) ?? parameterProblem(parameters) ?? endOfTextProblem(config);
}

/** What checkpoints call the parts of a layer. */
export interface LayerNames {
  readonly attention: string;
  readonly attentionProjections: AttentionNames;
  readonly feedForward: string;
  readonly feedForwardProjections: FeedForwardNames;
  readonly attentionNorm: string;
  readonly feedForwardNorm: string;
}

/** A mixer in attention's place, and what checkpoints call it. */
export interface OtherMixer {
  readonly name: string;
  readonly make: (parameters: ParameterStore) => Mixer;
}

/**
 * Makes the modules: in each layer attention and a feed-forward layer, one after the other, or both on the same stream.
 * @param options.parallel whether both read the same stream
 * @param options.otherMixer what a layer has in attention's place; undefined: attention
 * @param options.feedForward makes another kind of feed-forward layer
 */
export function build(
  parameters: ParameterStore,
  config: TransformerConfig,
  keys: FamilyKeys,
  names: LayerNames,
  options: {
    readonly parallel?: boolean;
    readonly otherMixer?: (layer: number) => OtherMixer | undefined;
    readonly feedForward?: (parameters: ParameterStore) => Mixer;
  } = {},
): Parts {
  const { vocabularySize, dModel, layers, inner, activation, feedForwardBias, norm: kind, normEpsilon: epsilon, deviation, tiedHead } = config;
  const { parallel = false, otherMixer = () => undefined } = options;
  const trunk = parameters.at(keys.trunk);
  const norm = (at: ParameterStore) => new Norm(at, { size: dModel, kind, epsilon });
  // What is added to the stream 2·layers times begins that much smaller (Radford et al., GPT-2, 2019, section 2.3).
  const spread = { deviation, outputDeviation: deviation / Math.sqrt(2 * layers) };
  const sizes: FeedForwardConfig = { dModel, inner, activation, bias: feedForwardBias };
  const { feedForward = (at: ParameterStore) => new FeedForward(at, sizes, names.feedForwardProjections, spread) } = options;
  const embeddings = new Embedding(trunk.at(keys.embedding), { count: vocabularySize, size: dModel, deviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = trunk.at(keys.layers).at(String(i));
    const { name, make } = otherMixer(i) ?? { name: names.attention, make: (at) => new AttentionMixer(at, config, names.attentionProjections, spread) };
    const mix: Sublayer = { name, norm: norm(layer.at(names.attentionNorm)), mixer: make(layer.at(name)) };
    const feed: Sublayer = {
      name: names.feedForward,
      norm: norm(layer.at(names.feedForwardNorm)),
      mixer: feedForward(layer.at(names.feedForward)),
    };
    return new Block(parallel ? [[mix, feed]] : [mix, feed]);
  });
  const finalNorm = norm(trunk.at(keys.finalNorm));
  const head = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(deviation), packing: 'whole' } as const;
  return { embeddings, blocks, finalNorm, head: tiedHead ? null : new Linear(parameters.at(keys.head), head) };
}

/** The number of heads of a model of width D that nobody chose: heads of 64 numbers, or as near to it as divides D into even parts. */
export function usualHeads(dModel: number): number {
  for (let heads = Math.max(1, Math.round(dModel / 64)); heads > 1; heads--) if (dModel % (2 * heads) === 0) return heads;
  return 1;
}

/** What `elapid inspect` says of the sizes. */
export const sizesFacts = ({ dModel, heads, kvHeads, headSize, inner, contextLength, rotary, window }: TransformerConfig): Fact[] => [
  ['sizes', `d_model ${dModel}, ${heads} heads of ${headSize}${kvHeads === heads ? '' : ` on ${kvHeads} of keys and values`}, feed-forward ${inner}`],
  ['positions', `${rotary === null ? 'none' : `rotary, ${rotary.size} of ${headSize}, base ${rotary.base}`}; trained on up to ${contextLength}${window === undefined ? '' : `, a window of ${window}`}`],
];
