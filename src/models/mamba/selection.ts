import { fill } from '../../backend/memory/kernels.js';
import { Linear, normal, constant, type Parameter, type ParameterStore } from '../../nn/index.js';
import { add, linear, split } from '../../ops/index.js';
import { empty, launch, scope, type Tensor } from '../../tensor/index.js';
import type { MambaConfig } from './config.js';
import { mambaInitialisers } from './initialisers.js';

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
  /** @param u the scan's input [...,E] */
  select(u: Tensor): Selected;
}

/** S6: Δ, B and C are linear functions of the input (paper, algorithm 2). Keys: x_proj, dt_proj. */
export class SelectiveParameters implements Selection {
  readonly #sizes: readonly [dtRank: number, dState: number, dState: number];
  readonly xProj: Linear;
  readonly dtWeight: Parameter;
  readonly dtBias: Parameter;

  constructor(parameters: ParameterStore, config: MambaConfig) {
    const { dInner, dState, dtRank } = config;
    const { dtBias, dtWeight } = mambaInitialisers(config);
    this.#sizes = [dtRank, dState, dState];
    this.xProj = new Linear(parameters.at('x_proj'), { inputs: dInner, outputs: dtRank + 2 * dState, bias: false });
    const dt = parameters.at('dt_proj');
    this.dtWeight = dt.get('weight', { shape: [dInner, dtRank], initialiser: dtWeight });
    this.dtBias = dt.get('bias', { shape: [dInner], initialiser: dtBias, decay: false });
  }

  select(u: Tensor): Selected {
    return scope(() => {
      const [dt, B, C] = split(this.xProj.forward(u), this.#sizes) as [Tensor, Tensor, Tensor];
      return { delta: linear(dt, this.dtWeight.tensor), B, C };
    });
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

  constructor(parameters: ParameterStore, config: MambaConfig) {
    const { dInner, dState } = config;
    this.#dState = dState;
    this.dtBias = parameters.get('dt_bias', { shape: [dInner], initialiser: mambaInitialisers(config).dtBias, decay: false });
    this.B = parameters.get('B', { shape: [dState], initialiser: constant(1), decay: false });
    this.C = parameters.get('C', { shape: [dState], initialiser: normal(1), decay: false });
  }

  select(u: Tensor): Selected {
    const everywhere = [...u.shape.slice(0, -1), this.#dState];
    return scope(() => {
      const zero = zeros(u, everywhere);
      return { delta: zeros(u, u.shape), B: add(zero, this.B.tensor), C: add(zero, this.C.tensor) };
    });
  }
}

function zeros({ backend }: Tensor, shape: readonly number[]): Tensor {
  const made = empty(backend, shape);
  launch(fill, { values: made }, { value: 0, count: made.size });
  return made;
}
