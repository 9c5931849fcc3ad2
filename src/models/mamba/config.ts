import { mambaMixerConfig, type MambaInitialisation, type MambaMixerConfig, type MambaMixerOptions } from '../../mixers/index.js';
import { ArgumentError } from '../../util/errors.js';
import type { BaseConfig } from '../family.js';
import { problemOf } from '../mamba-layers.js';

/** What a Mamba language model looks like. */
export interface MambaConfig extends BaseConfig, MambaMixerConfig {
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon: number;
  readonly initialisation: MambaModelInitialisation;
}

/** How parameters start. */
export interface MambaModelInitialisation extends MambaInitialisation {
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
}

/** What `mambaConfig` is told; what is left out has the published default. */
export type MambaConfigOptions = Pick<MambaConfig, 'vocabularySize'> &
  Omit<MambaMixerOptions, 'initialisation' | 'selectionNormEpsilon'> &
  Partial<Pick<MambaConfig, 'norm' | 'normEpsilon' | 'tiedHead' | 'endOfText'>> & { readonly initialisation?: Partial<MambaModelInitialisation> };

/** The published models (state-spaces/mamba-*): width and layers. */
const publishedSizes = {
  '130m': { dModel: 768, layers: 24 },
  '370m': { dModel: 1024, layers: 48 },
  '790m': { dModel: 1536, layers: 48 },
  '1.4b': { dModel: 2048, layers: 48 },
  '2.8b': { dModel: 2560, layers: 64 },
} as const;

/** A published size by its name. */
export type MambaSize = keyof typeof publishedSizes;

/** The names of the published sizes, the smallest first. */
export const mambaSizes = Object.keys(publishedSizes) as MambaSize[];

/**
 * A config with the published defaults: d_state 16, d_conv 4, expand 2, dt_rank ⌈D/16⌉, RMS norm, tied head, and no ids that end a
 * text beside the tokenizer's.
 * @param options sizes; or the name of a published model: `mambaConfig('130m')`, whose vocabulary has 50,280 ids
 * @throws ArgumentError when a size is no integer from 1 to the largest there may be (`layers`: 4096), when the parameters would be
 *   more than 2⁴⁰, when an id that ends a text is not in the vocabulary, or when no published model has that name
 */
export function mambaConfig(options: MambaConfigOptions | MambaSize): MambaConfig {
  if (typeof options === 'string') return mambaConfig(publishedSize(options));
  const { initialisation, norm = 'rms', normEpsilon = 1e-5, tiedHead = true, endOfText = [], vocabularySize, ...rest } = options;
  const mixer = mambaMixerConfig({ ...rest, initialisation: initialisation ?? {} });
  const config: MambaConfig = {
    ...mixer,
    ...{ vocabularySize, norm, normEpsilon, tiedHead, endOfText },
    initialisation: { embeddingDeviation: 0.02, ...initialisation, ...mixer.initialisation },
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'mambaConfig', ...problem });
  return config;
}

/** The sizes of a published model. @throws ArgumentError when none has that name */
export function publishedSize(name: string): Pick<MambaConfig, 'vocabularySize' | 'dModel' | 'layers'> {
  if (Object.hasOwn(publishedSizes, name)) return { vocabularySize: 50280, ...publishedSizes[name as MambaSize] };
  throw new ArgumentError({ operation: 'mambaConfig', argument: 'the size', expected: `one of ${mambaSizes.join(', ')}`, got: `'${name}'` });
}
