import { Block, Embedding, Linear, Norm, normal, type Mixer, type ParameterStore } from '../nn/index.js';
import type { BaseConfig, Parts } from './family.js';

/**
 * Makes the modules of a model whose blocks are a norm and a mixer each, under the keys of transformers' `MambaForCausalLM`.
 * @param options.deviation standard deviation of the embeddings
 * @param options.mixer makes a block's mixer
 */
export function stacked(
  parameters: ParameterStore,
  { vocabularySize, dModel, layers, tiedHead }: BaseConfig,
  options: { readonly kind: 'rms' | 'layer'; readonly epsilon: number; readonly deviation: number; readonly mixer: (parameters: ParameterStore) => Mixer },
): Parts {
  const { kind, epsilon, deviation, mixer } = options;
  const backbone = parameters.at('backbone');
  const norm = (at: ParameterStore) => new Norm(at, { size: dModel, kind, epsilon });
  const embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = backbone.at('layers').at(String(i));
    const made = mixer(layer.at('mixer'));
    return new Block([{ name: 'mixer', norm: norm(layer.at('norm')), mixer: made }]);
  });
  const finalNorm = norm(backbone.at('norm_f'));
  const head = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(deviation) };
  return { embeddings, blocks, finalNorm, head: tiedHead ? null : new Linear(parameters.at('lm_head'), head) };
}
