import { gated, gelu, geluTanh, relu, silu } from '../../ops/index.js';
import { Linear, normal, type Mixer, type Normed, type ParameterStore } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';

const activations = { silu, gelu, geluTanh, relu } as const;

/** The functions that a feed-forward layer may have. */
export type Activation = keyof typeof activations;

/** What a feed-forward layer looks like. */
export interface FeedForwardConfig {
  /** D */
  readonly dModel: number;
  /** F: width between the projections. */
  readonly inner: number;
  readonly activation: Activation;
  readonly bias: boolean;
}

/** What checkpoints call the projections; with a gate, the activation's argument is `gate`, and `up` is multiplied by it. */
export interface FeedForwardNames {
  readonly gate?: string;
  readonly up: string;
  readonly down: string;
}

/**
 * A feed-forward layer: down(f(up(x))), or with a gate down(f(gate(x)) · up(x)), which with SiLU is SwiGLU (Shazeer, "GLU Variants
 * Improve Transformer", 2020). It remembers nothing.
 */
export class FeedForward implements Mixer {
  readonly slots = {};
  readonly gate: Linear | null;
  readonly up: Linear;
  readonly down: Linear;
  readonly #activation: Activation;

  /** @param options.deviation standard deviation of the initial weights */
  constructor(parameters: ParameterStore, config: FeedForwardConfig, names: FeedForwardNames, { deviation, outputDeviation = deviation }: { readonly deviation: number; readonly outputDeviation?: number }) {
    const { dModel, inner, activation, bias } = config;
    const wide = { inputs: dModel, outputs: inner, bias, initialiser: normal(deviation) };
    this.gate = names.gate === undefined ? null : new Linear(parameters.at(names.gate), wide);
    this.up = new Linear(parameters.at(names.up), wide);
    this.down = new Linear(parameters.at(names.down), { inputs: inner, outputs: dModel, bias, initialiser: normal(outputDeviation) });
    this.#activation = activation;
  }

  forward(x: Tensor): Tensor<FloatDType> {
    return scope(() => this.#through((linear) => linear.forward(x)));
  }

  step(x: Normed): Tensor<FloatDType> {
    if (this.gate === null) {
      const wide = x.project(this.up);
      return scope(() => this.down.forward(activations[this.#activation](wide)));
    }
    const value = x.value();
    return scope(() => this.#through((linear) => linear.forward(value)));
  }

  #through(project: (linear: Linear) => Tensor<FloatDType>): Tensor<FloatDType> {
    const { gate, up, down } = this;
    const activation = this.#activation;
    return down.forward(gate === null ? activations[activation](project(up)) : gated(project(gate), project(up), activation));
  }
}
