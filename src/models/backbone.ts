import { Block, Embedding, Linear, Norm, normal, type Mixer, type ParameterStore, type Sublayer } from '../nn/index.js';
import type { BaseConfig, Parts } from './family.js';

/**
 * Makes the modules of a model whose blocks are a norm and a mixer each, under the keys of transformers' `MambaForCausalLM`; a second
 * norm and a feed-forward layer may follow, under those of the official package.
 * @param options.deviation standard deviation of the embeddings
 * @param options.mixer makes the mixer of a block by its place
 * @param options.feedForward makes a block's feed-forward layer
 */
export function stacked(
  parameters: ParameterStore,
  { vocabularySize, dModel, layers, tiedHead }: BaseConfig,
  options: {
    readonly kind: 'rms' | 'layer';
    readonly epsilon: number;
    readonly deviation: number;
    readonly mixer: (parameters: ParameterStore, layer: number) => Mixer;
    readonly feedForward?: ((parameters: ParameterStore) => Mixer) | undefined;
  },
): Parts {
  const { kind, epsilon, deviation, mixer, feedForward } = options;
  const backbone = parameters.at('backbone');
  const norm = (at: ParameterStore) => new Norm(at, { size: dModel, kind, epsilon });
  const embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation });
  const blocks = Array.from({ length: layers }, (_, i) => {
    const layer = backbone.at('layers').at(String(i));
    const made = mixer(layer.at('mixer'), i);
    const mix: Sublayer = { name: 'mixer', norm: norm(layer.at('norm')), mixer: made };
    return new Block(feedForward === undefined ? [mix] : [mix, { name: 'mlp', norm: norm(layer.at('norm2')), mixer: feedForward(layer.at('mlp')) }]);
  });
  const finalNorm = norm(backbone.at('norm_f'));
  const head = { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(deviation) };
  return { embeddings, blocks, finalNorm, head: tiedHead ? null : new Linear(parameters.at('lm_head'), head) };
}
