import { gated, gelu, geluTanh, relu, silu, split } from '../../ops/index.js';
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

/**
 * What checkpoints call the projections; with a gate, the activation's argument is `gate`, and `up` is multiplied by it. One projection
 * may give both, `up` before `gate`.
 */
export type FeedForwardNames =
  | { readonly gate?: string; readonly up: string; readonly down: string }
  | { readonly upAndGate: string; readonly down: string };

/**
 * A feed-forward layer: down(f(up(x))), or with a gate down(f(gate(x)) · up(x)), which with SiLU is SwiGLU (Shazeer, "GLU Variants
 * Improve Transformer", 2020). It remembers nothing.
 */
export class FeedForward implements Mixer {
  readonly slots = {};
  readonly gate: Linear | null;
  /** Where one projection gives both, the gate too. */
  readonly up: Linear;
  readonly down: Linear;
  /** F, where one projection gives `up` and the gate; else null. */
  readonly #together: number | null;
  readonly #activation: Activation;

  /** @param options.deviation standard deviation of the initial weights */
  constructor(parameters: ParameterStore, config: FeedForwardConfig, names: FeedForwardNames, { deviation, outputDeviation = deviation }: { readonly deviation: number; readonly outputDeviation?: number }) {
    const { dModel, inner, activation, bias } = config;
    const together = 'upAndGate' in names;
    const wide = (name: string, outputs = inner) => new Linear(parameters.at(name), { inputs: dModel, outputs, bias, initialiser: normal(deviation) });
    this.gate = together || names.gate === undefined ? null : wide(names.gate);
    this.up = together ? wide(names.upAndGate, 2 * inner) : wide(names.up);
    this.down = new Linear(parameters.at(names.down), { inputs: inner, outputs: dModel, bias, initialiser: normal(outputDeviation) });
    this.#together = together ? inner : null;
    this.#activation = activation;
  }

  forward(x: Tensor): Tensor<FloatDType> {
    return scope(() => this.#down(this.up.forward(x), this.gate === null ? null : this.gate.forward(x)));
  }

  step(x: Normed): Tensor<FloatDType> {
    if (this.gate === null) {
      const wide = x.project(this.up);
      return scope(() => this.#down(wide, null));
    }
    return this.forward(x.value());
  }

  /** @param wide what `up` gives */
  #down(wide: Tensor, gate: Tensor | null): Tensor<FloatDType> {
    const [activation, together] = [this.#activation, this.#together];
    if (gate !== null) return this.down.forward(gated(gate, wide, activation));
    if (together === null) return this.down.forward(activations[activation](wide));
    const [up, of] = split(wide, [together, together]) as [Tensor, Tensor];
    return this.down.forward(gated(of, up, activation));
  }
}
