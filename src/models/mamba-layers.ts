/** What families share whose layers are all Mamba mixers, each behind a norm: sizes, modules, what `elapid inspect` says. */
import { MambaMixer, type MambaMixerConfig } from '../mixers/index.js';
import { largestMixerSizes, mixerMatrixSize, sizeProblem } from '../mixers/mamba/config.js';
import { Block, Embedding, Linear, Norm, normal, type ParameterStore } from '../nn/index.js';
import type { ArgumentProblem } from '../util/errors.js';
import { endOfTextProblem, parameterProblem, type BaseConfig, type Fact, type Parts } from './family.js';

type Config = BaseConfig & MambaMixerConfig;

/** The largest sizes that a config may have. */
export const largestSizes = { vocabularySize: 2 ** 24, ...largestMixerSizes } as const;

/** What is wrong with a config. */
export function problemOf(config: Config): ArgumentProblem | undefined {
  const { vocabularySize, dModel, layers, tiedHead } = config;
  const parameters = () => (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * mixerMatrixSize(config);
  return sizeProblem(config, largestSizes) ?? parameterProblem(parameters()) ?? endOfTextProblem(config);
}

/**
 * Makes the modules, under the keys of transformers' `MambaForCausalLM`.
 * @param options.deviation standard deviation of the embeddings
 */
export function build(
  parameters: ParameterStore,
  config: Config,
  { kind, epsilon, deviation }: { readonly kind: 'rms' | 'layer'; readonly epsilon: number; readonly deviation: number },
): Parts {
  const { vocabularySize, dModel, layers, tiedHead } = config;
  const backbone = parameters.at('backbone');
  const norm = (at: ParameterStore) => new Norm(at, { size: dModel, kind, epsilon });
  const embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = backbone.at('layers').at(String(i));
    const mixer = new MambaMixer(layer.at('mixer'), config);
    return new Block([{ name: 'mixer', norm: norm(layer.at('norm')), mixer }]);
  });
  const finalNorm = norm(backbone.at('norm_f'));
  const head = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(deviation) };
  return { embeddings, blocks, finalNorm, head: tiedHead ? null : new Linear(parameters.at('lm_head'), head) };
}

/** The sizes of a mixer, as `elapid inspect` shows them. */
export const sizesFact = ({ dModel, dInner, dState, dConv, dtRank }: MambaMixerConfig): Fact => [
  'sizes',
  `d_model ${dModel}, d_inner ${dInner}, d_state ${dState}, d_conv ${dConv}, dt_rank ${dtRank}`,
];
