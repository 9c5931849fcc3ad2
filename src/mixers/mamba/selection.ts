import { constant, fanIn, Linear, normal, type Memory, type Parameter, type ParameterStore } from '../../nn/index.js';
import { add, full, rmsNorm, split, zeros } from '../../ops/index.js';
import { scope, type Backend, type Tensor } from '../../tensor/index.js';
import { mambaInitialisers } from './initialisers.js';
import type { MambaMixerConfig } from './config.js';

/** What the scan reads besides its input and A. */
export interface Selected {
  /** [...,E]: Δ before bias and softplus. */
  readonly delta: Tensor;
  /** [...,N] */
  readonly B: Tensor;
  /** [...,N] */
  readonly C: Tensor;
}

/** Where Δ, B and C come from. */
export interface Selection {
  /** [E], added to delta before the softplus. */
  readonly dtBias: Parameter;
  /**
   * @param u the scan's input [...,E]
   * @param constants what `constants()` gave
   */
  select(u: Tensor, constants: Memory): Selected;
  /** What a step need not work out again. */
  constants(): Memory;
}

/**
 * S6: Δ, B and C are linear functions of the input (paper, algorithm 2). With a norm's ε, what they are made of is normed first: each of
 * the three parts by its root mean square, without weights (Falcon-Mamba). Keys: x_proj, dt_proj.
 */
export class SelectiveParameters implements Selection {
  readonly #sizes: readonly [dtRank: number, dState: number, dState: number];
  readonly #backend: Backend;
  readonly #normEpsilon: number | undefined;
  readonly #xProj: Linear;
  readonly #dtProj: Linear;

  /**
   * @param options.suffix of the keys
   * @param options.plainStart whether dt_proj starts as any linear layer does, with a bias of 0, as Vision Mamba's backward one
   */
  constructor(parameters: ParameterStore, config: MambaMixerConfig, { suffix = '', plainStart = false }: { readonly suffix?: string; readonly plainStart?: boolean } = {}) {
    const { dInner, dState, dtRank, selectionNormEpsilon } = config;
    const { dtBias, dtWeight } = plainStart ? { dtBias: constant(0), dtWeight: fanIn(dtRank) } : mambaInitialisers(config);
    this.#sizes = [dtRank, dState, dState];
    this.#normEpsilon = selectionNormEpsilon;
    this.#xProj = new Linear(parameters.at(`x_proj${suffix}`), { inputs: dInner, outputs: dtRank + 2 * dState, bias: false });
    // The step sizes decide how long the state remembers: four bits are too few.
    const options = { inputs: dtRank, outputs: dInner, bias: true, initialiser: dtWeight, biasInitialiser: dtBias, packing: 'atLeastInt8' } as const;
    this.#dtProj = new Linear(parameters.at(`dt_proj${suffix}`), options);
    this.#backend = this.#dtProj.weight.tensor.backend;
  }

  get dtBias(): Parameter {
    return this.#dtProj.bias as Parameter;
  }

  select(u: Tensor, constants: Memory): Selected {
    return scope(() => {
      const [dt, B, C] = this.#normed(split(this.#xProj.forward(u), this.#sizes), constants) as [Tensor, Tensor, Tensor];
      // The scan adds the bias.
      return { delta: this.#dtProj.product(dt), B, C };
    });
  }

  constants(): Memory {
    return this.#normEpsilon === undefined ? {} : { ones: full(this.#backend, [Math.max(...this.#sizes)], 1) };
  }

  /** The weights, for kernels that select by themselves; null where `select` does more than to multiply by them. */
  plain(): { xProj: Tensor; dtProj: Tensor; dtBias: Tensor } | null {
    const [xProj, dtProj] = [this.#xProj.plain(), this.#dtProj.plain()];
    return xProj === null || dtProj === null || this.#normEpsilon !== undefined ? null : { xProj, dtProj, dtBias: this.dtBias.tensor };
  }

  #normed(parts: readonly Tensor[], { ones }: Memory): readonly Tensor[] {
    const epsilon = this.#normEpsilon;
    if (epsilon === undefined || ones === undefined) return parts;
    return parts.map((part) => rmsNorm(part, ones.aliased([part.columns]), { epsilon }).y);
  }
}

/**
 * S4D-real in S6's place: Δ [E], B [N] and C [N] are parameters, the same at every position, so that the layer is linear
 * and time-invariant (paper, algorithm 1). A [E,N], Δ and D belong to each channel, as they do in S6. B and C are shared by
 * the channels, as they are in S6 at each position; S4D has a C for each channel, which the scan's layout has not: here
 * channels differ by their A and Δ, and out_proj mixes them. Starts: B = 1, C normal, Δ and A as in S6. Keys: dt_bias, B, C.
 */
export class ConstantParameters implements Selection {
  readonly #dState: number;
  readonly dtBias: Parameter;
  readonly B: Parameter;
  readonly C: Parameter;

  constructor(parameters: ParameterStore, config: MambaMixerConfig) {
    const { dInner, dState } = config;
    this.#dState = dState;
    this.dtBias = parameters.get('dt_bias', { shape: [dInner], initialiser: mambaInitialisers(config).dtBias, decay: false });
    this.B = parameters.get('B', { shape: [dState], initialiser: constant(1), decay: false });
    this.C = parameters.get('C', { shape: [dState], initialiser: normal(1), decay: false });
  }

  select(u: Tensor): Selected {
    return scope(() => {
      const zero = zeros(u.backend, [...u.shape.slice(0, -1), this.#dState]);
      return { delta: zeros(u.backend, u.shape), B: add(zero, this.B.tensor), C: add(zero, this.C.tensor) };
    });
  }

  constants(): Memory {
    return {};
  }
}
