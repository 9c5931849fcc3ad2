import { add, causalConv1d, causalConv1dStep, embedding, layerNorm, linear, reshape, rmsNorm, type CausalConv1dOptions, type ConvActivation } from '../ops/index.js';
import { rmsNormLinear } from '../ops/norm-linear/norm-linear.js';
import { scope, type FloatDType, type Tensor } from '../tensor/index.js';
import { constant, fanIn, normal, type Initialiser } from './initialisers.js';
import type { Packing, Parameter, ParameterStore } from './parameters.js';

/** How a `Linear` is made. */
export interface LinearOptions {
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: boolean;
  /** Of the weight; default: PyTorch's. */
  readonly initialiser?: Initialiser;
  /** Of the bias; default: zeros. */
  readonly biasInitialiser?: Initialiser;
  /** Of the weight; default 'whole'. */
  readonly packing?: Packing;
  /** Keys of weight and bias; default `weight` and `bias`. */
  readonly names?: readonly [weight: string, bias: string];
}

/** y = x·weightᵀ + bias. Keys: `weight` [out, in], `bias` [out]. */
export class Linear {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  /** What is added to the product, as an adapter does: [..., in] → [..., out]. Null: nothing. */
  added: ((x: Tensor) => Tensor<FloatDType>) | null = null;

  constructor(parameters: ParameterStore, options: LinearOptions) {
    const { inputs, outputs, bias, initialiser = fanIn(inputs), biasInitialiser = constant(0), packing = 'whole', names = ['weight', 'bias'] } = options;
    this.weight = parameters.get(names[0], { shape: [outputs, inputs], initialiser, packing });
    this.bias = bias ? parameters.get(names[1], { shape: [outputs], initialiser: biasInitialiser, decay: false }) : null;
    parameters.list(this);
  }

  /** @param x [..., in] @param options.dtype of the result; default: x's @returns [..., out] */
  forward(x: Tensor, options: { readonly dtype?: 'f32' | 'f16' } = {}): Tensor<FloatDType> {
    return this.#with(x, () => linear(x, this.weight.tensor, this.bias?.tensor, options));
  }

  /** x·weightᵀ without the bias, for an operation that adds the bias itself. @param x [..., in] @returns [..., out] */
  product(x: Tensor): Tensor<FloatDType> {
    return this.#with(x, () => linear(x, this.weight.tensor));
  }

  /** The weight, for kernels that multiply by it themselves; null where `forward` does more than multiply and add the bias. */
  plain(): Tensor | null {
    return this.added === null ? this.weight.tensor : null;
  }

  #with(x: Tensor, product: () => Tensor<FloatDType>): Tensor<FloatDType> {
    const { added } = this;
    return added === null ? product() : scope(() => add(product(), added(x)));
  }
}

/** Rows of a table by id. Key: `weight` [V, D]. */
export class Embedding {
  readonly weight: Parameter;

  constructor(parameters: ParameterStore, { count, size, deviation }: { count: number; size: number; deviation: number }) {
    this.weight = parameters.get('weight', { shape: [count, size], initialiser: normal(deviation), packing: 'whole' });
  }

  /** @param ids [...] i32 @returns [..., D], f16 where the backend computes in mixed precision or the weight is f16 */
  forward(ids: Tensor): Tensor<FloatDType> {
    const weight = this.weight.tensor;
    return embedding(ids, weight, weight.backend.precision === 'f16' ? { dtype: 'f16' } : {});
  }
}

/** RMS or layer normalisation over the last axis, with the residual sum fused in. Keys: `weight`, for layer norm `bias`. */
export class Norm {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly epsilon: number;
  readonly kind: 'rms' | 'layer';

  constructor(parameters: ParameterStore, { size, kind, epsilon }: { size: number; kind: 'rms' | 'layer'; epsilon: number }) {
    this.weight = parameters.get('weight', { shape: [size], initialiser: constant(1), decay: false });
    this.bias = kind === 'layer' ? parameters.get('bias', { shape: [size], initialiser: constant(0), decay: false }) : null;
    this.epsilon = epsilon;
    this.kind = kind;
  }

  /**
   * @param x [..., D]
   * @param residual [..., D], added to x before the norm
   * @returns y = norm(x + residual) and the sum itself, the next residual
   */
  forward(x: Tensor, residual: Tensor | null): { y: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
    const options = { epsilon: this.epsilon, ...(residual === null ? {} : { residual }) };
    return this.kind === 'rms'
      ? rmsNorm(x, this.weight.tensor, options)
      : layerNorm(x, this.weight.tensor, this.bias?.tensor ?? null, options);
  }

  /**
   * The norm and a projection after it, for the few rows of decoding; not recorded for gradients.
   * @param x [B,D] @param residual [B,D], added to x before the norm
   * @returns y = projection(norm(x + residual)), and the sum itself, the next residual
   */
  project(x: Tensor, residual: Tensor | null, projection: Linear): { y: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
    const weight = projection.plain();
    if (weight !== null) return this.projectBy(x, residual, { weight, bias: projection.bias?.tensor ?? null });
    return scope(() => {
      const normed = this.forward(x, residual);
      return { y: projection.forward(normed.y), residual: normed.residual };
    });
  }

  /** The same by a weight [N,D] and a bias [N]. */
  projectBy(
    x: Tensor,
    residual: Tensor | null,
    { weight, bias, dtype }: { weight: Tensor; bias: Tensor | null; dtype?: 'f32' },
  ): { y: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
    const options = { bias, ...(dtype === undefined ? {} : { dtype }) };
    if (this.kind === 'rms') return rmsNormLinear(x, this.weight.tensor, weight, { epsilon: this.epsilon, residual, ...options });
    return scope(() => {
      const normed = this.forward(x, residual);
      return { y: linear(normed.y, weight, bias, options), residual: normed.residual };
    });
  }
}

/** Depthwise causal convolution, with SiLU unless told otherwise. Keys: `weight` [E, 1, K], `bias` [E]. */
export class CausalConv1d {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly #shape: [channels: number, width: number];
  readonly #activation: ConvActivation;

  /** @param options.initialiser of the weight; default: PyTorch's */
  constructor(
    parameters: ParameterStore,
    options: { channels: number; width: number; bias: boolean; initialiser?: Initialiser | undefined; activation?: ConvActivation },
  ) {
    const { channels, width, bias, initialiser = fanIn(width), activation = 'silu' } = options;
    this.#shape = [channels, width];
    this.#activation = activation;
    this.weight = parameters.get('weight', { shape: [channels, 1, width], initialiser });
    this.bias = bias ? parameters.get('bias', { shape: [channels], initialiser: fanIn(width), decay: false }) : null;
  }

  /**
   * @param x [B,L,E] @param options.initialState [B,K−1,E] @param options.finalState where the final state is written
   * @param options.sequenceStarts [B,L] i32
   */
  forward(
    x: Tensor,
    options: Pick<CausalConv1dOptions, 'initialState' | 'finalState' | 'sequenceStarts'>,
  ): { y: Tensor<FloatDType>; finalState: Tensor<'f32'> } {
    return scope(() => causalConv1d(x, reshape(this.weight.tensor, this.#shape), { ...options, ...this.#rest() }));
  }

  /** One position. @param state [B,K−1,E], updated in place @param x [B,E] */
  step(state: Tensor, x: Tensor): Tensor<FloatDType> {
    return scope(() => causalConv1dStep(state, x, reshape(this.weight.tensor, this.#shape), this.#rest()));
  }

  /** The weight [E,K], a handle that the caller or its scope disposes, and the bias. */
  weights(): { convWeight: Tensor; convBias: Tensor | null } {
    return { convWeight: reshape(this.weight.tensor, this.#shape), convBias: this.bias?.tensor ?? null };
  }

  #rest(): { bias: Tensor | null; activation: ConvActivation } {
    return { bias: this.bias?.tensor ?? null, activation: this.#activation };
  }
}
