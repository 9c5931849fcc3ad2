import { Block, Embedding, Linear, Norm, normal } from '../../nn/index.js';
import { MambaMixer } from '../../mixers/index.js';
import { expectOptions } from '../config-reading.js';
import type { ModelFamily } from '../family.js';
import { isMambaConfig, ltiType, readMambaConfig, writeMambaConfig } from './config-file.js';
import { mambaConfig, mambaSizes, problemOf, publishedSize, type MambaConfig, type MambaConfigOptions } from './config.js';

/**
 * Mamba ("Mamba: Linear-Time Sequence Modeling with Selective State Spaces"). Keys as in transformers' `MambaForCausalLM`; its
 * config.json is that of transformers or that of the official package.
 */
export const mambaFamily: ModelFamily<MambaConfig> = {
  name: 'mamba',
  modelTypes: ['mamba', ltiType],
  recognises: isMambaConfig,
  read: readMambaConfig,
  write: writeMambaConfig,
  problemOf,
  build(parameters, config) {
    const { vocabularySize, dModel, layers, norm, normEpsilon, tiedHead, initialisation } = config;
    const backbone = parameters.at('backbone');
    const { embeddingDeviation } = initialisation;
    const embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation: embeddingDeviation });
    const blocks = Array.from({ length: layers }, (_, i) => {
      const layer = backbone.at('layers').at(String(i));
      const mixer = new MambaMixer(layer.at('mixer'), config);
      return new Block([{ name: 'mixer', norm: new Norm(layer.at('norm'), { size: dModel, kind: norm, epsilon: normEpsilon }), mixer }]);
    });
    const finalNorm = new Norm(backbone.at('norm_f'), { size: dModel, kind: norm, epsilon: normEpsilon });
    const initialiser = normal(embeddingDeviation);
    const head = tiedHead ? null : new Linear(parameters.at('lm_head'), { inputs: dModel, outputs: vocabularySize, bias: false, initialiser });
    return { embeddings, blocks, finalNorm, head };
  },
  facts({ layers, norm, dModel, dInner, dState, dConv, dtRank }) {
    return [
      ['layers', `${layers} Mamba blocks, ${norm === 'rms' ? 'RMS' : 'layer'} norm`],
      ['sizes', `d_model ${dModel}, d_inner ${dInner}, d_state ${dState}, d_conv ${dConv}, dt_rank ${dtRank}`],
    ];
  },
  sizes: mambaSizes,
  configOf(options) {
    const known = ['vocabularySize', 'size', 'dModel', 'layers', 'dState', 'dConv', 'expand', 'dtRank', 'ssm', 'embeddingDeviation'];
    expectOptions('mamba', options, known);
    const { size, embeddingDeviation, ...sizes } = options;
    const published = size === undefined ? {} : publishedSize(String(size));
    const initialisation = embeddingDeviation === undefined ? {} : { embeddingDeviation: Number(embeddingDeviation) };
    return mambaConfig({ ...published, ...(sizes as unknown as MambaConfigOptions), initialisation });
  },
};
