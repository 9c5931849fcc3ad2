import { AttentionMixer } from '../../mixers/attention/mixer.js';
import type { AttentionConfig } from '../../mixers/attention/config.js';
import { FeedForward } from '../../mixers/feed-forward/mixer.js';
import { innerOf, usualHeadSize } from '../../mixers/mamba2/config.js';
import { Mamba2Mixer } from '../../mixers/mamba2/mixer.js';
import type { ParameterStore } from '../../nn/index.js';
import { stacked } from '../backbone.js';
import { expectOptions, layerList, sizeNamed } from '../config-reading.js';
import { usualKeys, type Fact, type FamilyOptions, type ModelFamily, type Parts } from '../family.js';
import { mixerFact, mixersInWords } from '../mamba2-layers.js';
import { usualHeads } from '../transformer-layers.js';
import { isMamba2Config, readMamba2Config, writeMamba2Config } from './config-file.js';
import { mamba2Config, problemOf, type Mamba2Config, type Mamba2ConfigOptions } from './config.js';

function build(parameters: ParameterStore, config: Mamba2Config): Parts {
  const { dModel, layers, inner, attention, attentionLayers, norm: kind, normEpsilon: epsilon, embeddingDeviation: deviation } = config;
  const outputGain = config.rescaleOutput ? 1 / Math.sqrt(layers * (inner === 0 ? 1 : 2)) : 1;
  // As wide as PyTorch's uniform weights.
  const spread = (inputs: number) => ({ deviation: 1 / Math.sqrt(3 * dModel), outputDeviation: outputGain / Math.sqrt(3 * inputs) });
  const names = { stacked: 'in_proj', conv: 'conv1d', output: 'out_proj' };
  return stacked(parameters, config, {
    ...{ kind, epsilon, deviation },
    mixer: (at, layer) =>
      attention !== null && attentionLayers.includes(layer)
        ? new AttentionMixer(at, attention, names, spread(attention.heads * attention.headSize))
        : new Mamba2Mixer(at, config, { outputGain }),
    feedForward: inner === 0 ? undefined : (at) => new FeedForward(at, { dModel, inner, activation: 'silu', bias: false }, { upAndGate: 'fc1', down: 'fc2' }, spread(inner)),
  });
}

/** The published models (state-spaces/mamba2-*): width and layers. */
const sizes: Readonly<Record<string, Pick<Mamba2Config, 'dModel' | 'layers'>>> = {
  '130m': { dModel: 768, layers: 24 },
  '370m': { dModel: 1024, layers: 48 },
  '780m': { dModel: 1536, layers: 48 },
  '1.3b': { dModel: 2048, layers: 48 },
  '2.7b': { dModel: 2560, layers: 64 },
};

/** Of models in training: as the published hybrid's, with heads of about 64. */
function usualAttention(dModel: number, heads = usualHeads(dModel)): AttentionConfig {
  const headSize = Math.floor(dModel / heads);
  const rotary = headSize < 4 ? null : { size: 2 * Math.floor(headSize / 4), base: 10000, scaling: null };
  return { dModel, heads, kvHeads: heads, headSize, inputBias: false, outputBias: false, rotary, convWidth: 4 };
}

function configOf(options: FamilyOptions): Mamba2Config {
  const known = ['vocabularySize', 'size', 'dModel', 'layers', 'dState', 'dConv', 'expand', 'headSize', 'groups', 'inner', 'attentionLayers', 'heads', 'embeddingDeviation'];
  expectOptions('mamba2', options, known);
  const { size: name, attentionLayers: listed, heads, ...own } = options;
  const published = name === undefined ? {} : sizeNamed('mamba2', sizes, name);
  const given = { vocabularySize: 50288, ...published, ...own } as unknown as Mamba2ConfigOptions;
  const attentionLayers = listed === undefined ? [] : layerList('configOf (mamba2)', 'attentionLayers', listed);
  const attention = attentionLayers.length === 0 ? null : usualAttention(given.dModel, heads === undefined ? undefined : Number(heads));
  return mamba2Config({ headSize: usualHeadSize(innerOf(given.expand ?? 2, given.dModel)), ...given, attentionLayers, attention });
}

function facts(config: Mamba2Config): Fact[] {
  const { layers, attention, attentionLayers, inner, norm } = config;
  const feedForward = inner === 0 ? '' : `, SwiGLU of ${inner} after each`;
  return [
    ['layers', `${mixersInWords(layers, attentionLayers)}${feedForward}, ${norm === 'rms' ? 'RMS' : 'layer'} norm`],
    mixerFact(config),
    ...(attention === null ? [] : [['attention', `${attention.heads} heads of ${attention.headSize}, ${attention.kvHeads} of keys and values`] as const]),
  ];
}

/**
 * Mamba-2 ("Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality"). Keys as in
 * transformers' `Mamba2ForCausalLM`; its config.json is that of transformers or that of the official package, whose hybrids hold attention
 * in some layers.
 */
export const mamba2Family: ModelFamily<Mamba2Config> = {
  name: 'mamba2',
  modelTypes: ['mamba2'],
  recognises: isMamba2Config,
  keys: { ...usualKeys, renamed: [[/^(backbone\.)?embedding\./, '$1embeddings.']] },
  sizes: Object.keys(sizes),
  read: readMamba2Config,
  write: writeMamba2Config,
  ...{ problemOf, build, configOf, facts },
};
