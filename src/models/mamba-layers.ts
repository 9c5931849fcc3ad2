/** What families share whose layers are all Mamba mixers, each behind a norm: sizes, modules, what `elapid inspect` says. */
import { MambaMixer, type MambaMixerConfig } from '../mixers/index.js';
import { largestMixerSizes, mixerMatrixSize, sizeProblem } from '../mixers/mamba/config.js';
import type { ParameterStore } from '../nn/index.js';
import type { ArgumentProblem } from '../util/errors.js';
import { stacked } from './backbone.js';
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

/** Makes the modules. @param options.deviation standard deviation of the embeddings */
export const build = (
  parameters: ParameterStore,
  config: Config,
  options: { readonly kind: 'rms' | 'layer'; readonly epsilon: number; readonly deviation: number },
): Parts => stacked(parameters, config, { ...options, mixer: (at) => new MambaMixer(at, config) });

/** The sizes of a mixer, as `elapid inspect` shows them. */
export const sizesFact = ({ dModel, dInner, dState, dConv, dtRank }: MambaMixerConfig): Fact => [
  'sizes',
  `d_model ${dModel}, d_inner ${dInner}, d_state ${dState}, d_conv ${dConv}, dt_rank ${dtRank}`,
];
