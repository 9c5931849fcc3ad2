import { BidirectionalMamba, Reversed } from '../../mixers/mamba/bidirectional.js';
import { MambaMixer } from '../../mixers/mamba/mixer.js';
import { Backbone, Block, constant, initialParameters, Linear, Norm, normal, ParameterStore } from '../../nn/index.js';
import type { Parallel, Parameter, SequenceMixer, Stream, TensorSource } from '../../nn/index.js';
import { add, cast, concatenate, crossEntropy, linear, mean, reshape, split, unfold, zeros } from '../../ops/index.js';
import { expectShape, expectTensors, inModule, scope, type Backend, type FloatDType, type Tensor } from '../../tensor/index.js';
import { disposeSymbol } from '../../util/disposal.js';
import { ArgumentError, DisposedError } from '../../util/errors.js';
import { mixerConfigOf, patchesAlong, problemOf, type VisionMambaConfig } from './config.js';

/**
 * Vision Mamba, an encoder of images: patches as a sequence, a class token among them, positions, layers of Mamba that read the sequence from both
 * ends, a norm, and a linear head on the class token. Keys are those of the published checkpoints.
 *
 * Source: Zhu et al., "Vision Mamba" (2024), and hustvl/Vim.
 */
export class VisionMamba implements Disposable {
  readonly config: VisionMambaConfig;
  readonly backend: Backend;
  /** All parameters, in the order the model was built, under their checkpoint keys. */
  readonly parameters: readonly Parameter[];
  readonly backbone: Backbone;
  readonly #patchWeight: Parameter;
  readonly #patchBias: Parameter;
  readonly #classToken: Parameter | null;
  readonly #positions: Parameter;
  readonly #head: Linear;
  #disposed = false;

  /**
   * @param source where the parameters come from; `loadVisionMamba` and `VisionMamba.initial` give the usual ones
   * @throws ArgumentError when the config's sizes cannot be
   */
  constructor(config: VisionMambaConfig, backend: Backend, source: TensorSource) {
    const problem = problemOf(config);
    if (problem !== undefined) throw new ArgumentError({ operation: 'VisionMamba', ...problem });
    const { channels, patch, dModel, classes, classToken } = config;
    const store = new ParameterStore(source);
    const embed = store.at('patch_embed').at('proj');
    const small = { initialiser: normal(0.02), decay: false } as const;
    this.config = config;
    this.backend = backend;
    // LeCun's normal: a variance of 1 / inputs.
    this.#patchWeight = embed.get('weight', { shape: [dModel, channels, patch, patch], initialiser: normal((channels * patch ** 2) ** -0.5) });
    this.#patchBias = embed.get('bias', { shape: [dModel], initialiser: constant(0), decay: false });
    this.#classToken = classToken === 'none' ? null : store.get('cls_token', { shape: [1, 1, dModel], ...small });
    this.#positions = store.get('pos_embed', { shape: [1, tokensOf(config), dModel], ...small });
    this.backbone = backboneOf(store, config);
    this.#head = new Linear(store.at('head'), { inputs: dModel, outputs: classes, bias: true, initialiser: normal(0.02) });
    this.parameters = store.all;
  }

  /** A model with the published initialisation. The same seed gives the same weights on every backend. */
  static initial(config: VisionMambaConfig, backend: Backend, seed: number): VisionMamba {
    return new VisionMamba(config, backend, initialParameters(backend, seed));
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /**
   * Scores of the classes, before a softmax.
   * @param pixels [B,C,S,S], S the config's `imageSize`, standardised as in training
   * @returns [B,classes]
   */
  forward(pixels: Tensor): Tensor<FloatDType> {
    return scope(() => {
      const features = this.features(pixels);
      return inModule('head', () => this.#head.forward(features, { dtype: 'f32' }));
    });
  }

  /** What the head sees of an image: the class token's last state, or the mean over all patches, [B,D]. */
  features(pixels: Tensor): Tensor<FloatDType> {
    return scope(() => {
      const tokens = this.tokens(pixels);
      const [batch = 0, count = 0, dModel = 0] = tokens.shape;
      if (this.#classToken === null) return mean(tokens, 1);
      const before = this.#classPlace * dModel;
      const [, own] = split(reshape(tokens, [batch, count * dModel]), [before, dModel, (count - 1) * dModel - before]) as [Tensor, Tensor<FloatDType>];
      return own;
    });
  }

  /**
   * The last state of every patch, row by row, and of the class token in its place, for dense tasks.
   * @param onBlock told of the stream after each block
   * @returns [B,M,D], or [B,M+1,D] with a class token
   */
  tokens(pixels: Tensor, onBlock?: (stream: Stream, block: number) => void): Tensor<FloatDType> {
    this.expectLive('VisionMamba');
    return scope(() => this.backbone.forward(this.#embedded(pixels), onBlock));
  }

  /**
   * Mean cross-entropy in nats of labels under the model.
   * @param pixels [B,C,S,S]
   * @param labels [B] i32, from 0 to classes − 1; −1 is not counted
   * @returns a scalar
   */
  loss(pixels: Tensor, labels: Tensor): Tensor<'f32'> {
    return scope(() => crossEntropy(this.forward(pixels), labels));
  }

  /** Throws when the model was disposed. @throws DisposedError */
  expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`${operation}: the model was disposed`);
  }

  /** Frees the parameters. */
  dispose(): void {
    this.#disposed = true;
    for (const { tensor } of this.parameters) tensor.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  /** Patches before the class token. */
  get #classPlace(): number {
    return this.config.classToken === 'middle' ? Math.floor(patchesAlong(this.config) ** 2 / 2) : 0;
  }

  /** The patches' embeddings with the class token among them, and with positions. */
  #embedded(pixels: Tensor): Tensor<FloatDType> {
    const { channels, imageSize, patch, stride, dModel } = this.config;
    const weight = this.#patchWeight.tensor;
    expectTensors('VisionMamba', { model: [weight, 'float'], pixels: [pixels, 'float'] });
    const [batch = 0] = pixels.shape;
    expectShape('VisionMamba', 'pixels', pixels.shape, [batch, channels, imageSize, imageSize], '[B,C,S,S]', 'another size needs a model of that imageSize');
    return inModule('patch_embed', () => {
      const matrix = reshape(weight, [dModel, channels * patch ** 2]);
      const dtype = this.backend.precision === 'f16' ? 'f16' : 'f32';
      const patches = linear(unfold(pixels, { patch, stride }), matrix, this.#patchBias.tensor, { dtype });
      // Rows of all tokens of an image: what lies before the class token, it, and what lies after it.
      const flat = reshape(patches, [batch, -1]);
      const positions = reshape(this.#positions.tensor, [-1]);
      const tokens = this.#classToken === null ? flat : concatenate(this.#around(flat, this.#classToken.tensor));
      return reshape(add(tokens, positions), [batch, tokensOf(this.config), dModel]);
    });
  }

  #around(patches: Tensor, token: Tensor): Tensor[] {
    const { dModel } = this.config;
    const before = this.#classPlace * dModel;
    const [first, last] = split(patches, [before, patches.columns - before]) as [Tensor, Tensor];
    const every = cast(add(zeros(patches.backend, [patches.rows, dModel]), reshape(token, [dModel])), patches.dtype as FloatDType);
    return before === 0 ? [every, last] : [first, every, last];
  }
}

/** The length of the sequence. */
const tokensOf = (config: VisionMambaConfig): number => patchesAlong(config) ** 2 + (config.classToken === 'none' ? 0 : 1);

function backboneOf(store: ParameterStore, config: VisionMambaConfig): Backbone {
  const { dModel: size, layers, norm: kind, normEpsilon: epsilon, directions } = config;
  const mixer = mixerConfigOf(config);
  const sublayer = (i: number, make: (at: ParameterStore) => SequenceMixer) => {
    const at = store.at('layers').at(String(i));
    return { name: 'mixer', norm: new Norm(at.at('norm'), { size, kind, epsilon }), mixer: make(at.at('mixer')) };
  };
  const pairs = directions === 'pairs';
  const blocks = Array.from({ length: pairs ? layers / 2 : layers }, (_, i): Block<SequenceMixer> => {
    if (!pairs) return new Block<SequenceMixer>([sublayer(i, (at) => new BidirectionalMamba(at, mixer))]);
    const both: Parallel<SequenceMixer> = [sublayer(2 * i, (at) => new MambaMixer(at, mixer)), sublayer(2 * i + 1, (at) => new Reversed(new MambaMixer(at, mixer)))];
    return new Block<SequenceMixer>([both]);
  });
  // The two layers of a pair give a stream each, and the streams are added up.
  return new Backbone(blocks, new Norm(store.at('norm_f'), { size, kind, epsilon }), { residualGain: pairs ? 2 : 1 });
}
