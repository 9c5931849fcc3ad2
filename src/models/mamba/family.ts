import { ArgumentError } from '../../util/errors.js';
import { expectOptions } from '../config-reading.js';
import { usualKeys, type ModelFamily } from '../family.js';
import { build, problemOf, sizesFact } from '../mamba-layers.js';
import { isMambaConfig, ltiType, readMambaConfig, writeMambaConfig } from './config-file.js';
import { mambaConfig, mambaSizes, publishedSize, type MambaConfig, type MambaConfigOptions } from './config.js';

/** Names of the official implementation, of mamba.py (alxndrTL), and of MambaByte's. */
const dialects = [
  [/^(backbone\.)?embedding\./, '$1embeddings.'],
  [/^mamba\.layers\./, 'layers.'],
  [/^mambabyte\.token_embedding\./, 'backbone.embeddings.'],
  [/^mambabyte\.final_norm\./, 'backbone.norm_f.'],
  [/^mambabyte\./, 'backbone.'],
] as const;

/**
 * Mamba ("Mamba: Linear-Time Sequence Modeling with Selective State Spaces"). Keys as in transformers' `MambaForCausalLM`; its
 * config.json is that of transformers or that of the official package. MambaByte ("MambaByte: Token-free Selective State Space Model") is
 * the same on bytes.
 */
export const mambaFamily: ModelFamily<MambaConfig> = {
  name: 'mamba',
  modelTypes: ['mamba', ltiType],
  recognises: isMambaConfig,
  keys: { ...usualKeys, renamed: dialects },
  read: readMambaConfig,
  write: writeMambaConfig,
  problemOf,
  build: (parameters, config) => build(parameters, config, { kind: config.norm, epsilon: config.normEpsilon, deviation: config.initialisation.embeddingDeviation }),
  facts: (config) => [['layers', `${config.layers} Mamba blocks, ${config.norm === 'rms' ? 'RMS' : 'layer'} norm`], sizesFact(config)],
  sizes: mambaSizes,
  configOf(options) {
    const known = ['vocabularySize', 'size', 'dModel', 'layers', 'dState', 'dConv', 'expand', 'dtRank', 'ssm', 'embeddingDeviation'];
    expectOptions('mamba', options, known);
    const { size, embeddingDeviation, ...sizes } = options;
    const published: Partial<ReturnType<typeof publishedSize>> = size === undefined ? {} : publishedSize(String(size));
    const { vocabularySize } = options;
    if (published.vocabularySize === 256 && vocabularySize !== undefined && vocabularySize !== 256) {
      const [expected, hint] = [`256: ${String(size)} reads bytes`, 'leave the tokenizer out, or choose another size'];
      throw new ArgumentError({ operation: 'configOf (mamba)', argument: 'vocabularySize', expected, got: String(vocabularySize), hint });
    }
    const initialisation = embeddingDeviation === undefined ? {} : { embeddingDeviation: Number(embeddingDeviation) };
    return mambaConfig({ ...published, ...(sizes as unknown as MambaConfigOptions), initialisation });
  },
};
