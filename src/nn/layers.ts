import { causalConv1d, causalConv1dStep, embedding, layerNorm, linear, reshape, rmsNorm, rmsNormLinear, type CausalConv1dOptions } from '../ops/index.js';
import { scope, type FloatDType, type Tensor } from '../tensor/index.js';
import { constant, fanIn, normal, type Initialiser } from './initialisers.js';
import type { Parameter, ParameterStore } from './parameters.js';

/** y = x·weightᵀ + bias. Keys: `weight` [out, in], `bias` [out]. */
export class Linear {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    parameters: ParameterStore,
    { inputs, outputs, bias, initialiser = fanIn(inputs) }: { inputs: number; outputs: number; bias: boolean; initialiser?: Initialiser },
  ) {
    this.weight = parameters.get('weight', { shape: [outputs, inputs], initialiser });
    this.bias = bias ? parameters.get('bias', { shape: [outputs], initialiser: constant(0), decay: false }) : null;
  }

  /** @param x [..., in] @returns [..., out] */
  forward(x: Tensor): Tensor<FloatDType> {
    return linear(x, this.weight.tensor, this.bias?.tensor);
  }
}

/** Rows of a table by id. Key: `weight` [V, D]. */
export class Embedding {
  readonly weight: Parameter;

  constructor(parameters: ParameterStore, { count, size, deviation }: { count: number; size: number; deviation: number }) {
    this.weight = parameters.get('weight', { shape: [count, size], initialiser: normal(deviation) });
  }

  /** @param ids [...] i32 @returns [..., D], f16 where the backend computes in mixed precision or the weight is f16 */
  forward(ids: Tensor): Tensor<FloatDType> {
    const weight = this.weight.tensor;
    return embedding(ids, weight, weight.backend.matmul === 'f16' ? { dtype: 'f16' } : {});
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
   * @returns y = norm(x + residual)·weightᵀ + bias, and the sum itself, the next residual
   */
  project(
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

/** Depthwise causal convolution with SiLU. Keys: `weight` [E, 1, K], `bias` [E]. */
export class CausalConv1d {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly #shape: [channels: number, width: number];

  constructor(parameters: ParameterStore, { channels, width, bias }: { channels: number; width: number; bias: boolean }) {
    const initialiser = fanIn(width);
    this.#shape = [channels, width];
    this.weight = parameters.get('weight', { shape: [channels, 1, width], initialiser });
    this.bias = bias ? parameters.get('bias', { shape: [channels], initialiser, decay: false }) : null;
  }

  /**
   * @param x [B,L,E] @param options.initialState [B,K−1,E] @param options.finalState where the final state is written
   * @param options.sequenceStarts [B,L] i32
   */
  forward(
    x: Tensor,
    options: Pick<CausalConv1dOptions, 'initialState' | 'finalState' | 'sequenceStarts'>,
  ): { y: Tensor<FloatDType>; finalState: Tensor<'f32'> } {
    return scope(() => causalConv1d(x, reshape(this.weight.tensor, this.#shape), { ...options, ...this.#activation() }));
  }

  /** One position: x [B,E]; `state` [B,K−1,E] is updated in place. */
  step(x: Tensor, state: Tensor): Tensor<FloatDType> {
    return scope(() => causalConv1dStep(state, x, reshape(this.weight.tensor, this.#shape), this.#activation()));
  }

  /** The weight [E,K], a handle that the caller or its scope disposes, and the bias. */
  weights(): { convWeight: Tensor; convBias: Tensor | null } {
    return { convWeight: reshape(this.weight.tensor, this.#shape), convBias: this.bias?.tensor ?? null };
  }

  #activation(): { bias?: Tensor; activation: 'silu' } {
    return { ...(this.bias === null ? {} : { bias: this.bias.tensor }), activation: 'silu' };
  }
}
