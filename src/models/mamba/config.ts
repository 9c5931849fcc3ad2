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

/** The published models (state-spaces/mamba-*), whose vocabulary has 50,280 ids: width and layers. */
const subwordSizes = {
  '130m': { dModel: 768, layers: 24 },
  '370m': { dModel: 1024, layers: 48 },
  '790m': { dModel: 1536, layers: 48 },
  '1.4b': { dModel: 2048, layers: 48 },
  '2.8b': { dModel: 2560, layers: 64 },
} as const;

/** Those that read bytes (MambaByte, table 1): all 256 are ids, and there are no others. */
const byteSizes = {
  'mambabyte-353m': { dModel: 1024, layers: 53 },
  'mambabyte-972m': { dModel: 1792, layers: 48 },
  'mambabyte-1.6b': { dModel: 2304, layers: 48 },
} as const;

/** A published size by its name. */
export type MambaSize = keyof typeof subwordSizes | keyof typeof byteSizes;

/** The names of the published sizes: Mamba's, then MambaByte's, the smallest first. */
export const mambaSizes = [...Object.keys(subwordSizes), ...Object.keys(byteSizes)] as MambaSize[];

/**
 * A config with the published defaults: d_state 16, d_conv 4, expand 2, dt_rank ⌈D/16⌉, RMS norm, tied head, and no ids that end a
 * text beside the tokenizer's.
 * @param options sizes; or the name of a published model: `mambaConfig('130m')`, whose vocabulary has 50,280 ids;
 *   `mambaConfig('mambabyte-353m')`, which reads bytes
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

/**
 * The sizes of a published model, and what else its authors' code has otherwise than Mamba's: MambaByte's has layer norms and a head of its own.
 * @throws ArgumentError when none has that name
 */
export function publishedSize(name: string): Pick<MambaConfig, 'vocabularySize' | 'dModel' | 'layers'> & Partial<Pick<MambaConfig, 'norm' | 'tiedHead'>> {
  if (Object.hasOwn(subwordSizes, name)) return { vocabularySize: 50280, ...subwordSizes[name as keyof typeof subwordSizes] };
  if (Object.hasOwn(byteSizes, name)) return { vocabularySize: 256, norm: 'layer', tiedHead: false, ...byteSizes[name as keyof typeof byteSizes] };
  throw new ArgumentError({ operation: 'mambaConfig', argument: 'the size', expected: `one of ${mambaSizes.join(', ')}`, got: `'${name}'` });
}
