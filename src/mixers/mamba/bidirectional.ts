import { CausalConv1d, constant, fanIn, Linear, type Parameter, type ParameterStore, type SequenceMixer } from '../../nn/index.js';
import { add, affine, exp, flip, gated, multiply, negate, selectiveScan, split } from '../../ops/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import type { MambaMixerConfig } from './config.js';
import { mambaInitialisers } from './initialisers.js';
import { SelectiveParameters } from './selection.js';

/** A Mamba mixer that reads a sequence from both ends. */
export interface BidirectionalMambaConfig extends MambaMixerConfig {
  /**
   * What the direction from the end has of its own: 'all', its convolution, selection, A and D (Vim's bimamba v2), or only its 'A' (v1), so
   * that convolution and selection look at earlier positions in both directions.
   */
  readonly backward: 'all' | 'A';
  /** Whether the mean of both directions goes on, instead of their sum. */
  readonly mean: boolean;
  /** Start of a factor for each of the D results; none: no factors. */
  readonly layerScale?: number;
}

/**
 * Vision Mamba's mixer (Zhu et al. 2024, algorithm 1): project to x and z, let x go through convolution, selection and scan forwards and,
 * with other weights, backwards, gate the sum by z, project back. Both directions share the projections. Keys: those of `MambaMixer`; of the
 * backward direction A_b_log and, where it has all of its own, conv1d_b, x_proj_b, dt_proj_b, D_b; gamma.
 */
export class BidirectionalMamba implements SequenceMixer {
  readonly inProj: Linear;
  readonly outProj: Linear;
  readonly #forward: Direction;
  readonly #backward: Direction | { readonly aLog: Parameter };
  readonly #gamma: Parameter | null;
  readonly #config: BidirectionalMambaConfig;

  constructor(parameters: ParameterStore, config: BidirectionalMambaConfig) {
    const { dModel, dInner, projectionBias: bias, backward, layerScale } = config;
    this.#config = config;
    this.inProj = new Linear(parameters.at('in_proj'), { inputs: dModel, outputs: 2 * dInner, bias });
    this.#forward = new Direction(parameters, config, '');
    this.#backward = backward === 'all' ? new Direction(parameters, config, '_b') : { aLog: aLogOf(parameters, config, '_b') };
    const initialiser = fanIn(dInner, mambaInitialisers(config).outputGain);
    this.outProj = new Linear(parameters.at('out_proj'), { inputs: dInner, outputs: dModel, bias, initialiser });
    this.#gamma = layerScale === undefined ? null : parameters.get('gamma', { shape: [dModel], initialiser: constant(layerScale), decay: false });
  }

  /** @param x [B,L,D] @returns [B,L,D] */
  forward(x: Tensor): Tensor<FloatDType> {
    return scope(() => {
      const { dInner, mean } = this.#config;
      const [inner, z] = split(this.inProj.forward(x), [dInner, dInner]) as [Tensor, Tensor];
      const both = gated(z, add(...this.#scans(inner)), 'silu');
      // Half the product is the product of half the sum, on fewer numbers.
      const { bias } = this.outProj;
      const half = mean ? affine(this.outProj.product(both), 0.5) : null;
      const y = half === null ? this.outProj.forward(both) : bias === null ? half : add(half, bias.tensor);
      return this.#gamma === null ? y : multiply(y, this.#gamma.tensor);
    });
  }

  /** The results of both directions, [B,L,E] each, before the gate. */
  #scans(inner: Tensor): [Tensor, Tensor] {
    const { aLog } = this.#backward;
    if (this.#backward instanceof Direction) return [this.#forward.scan(inner), flip(this.#backward.scan(flip(inner)))];
    const selected = this.#forward.select(inner);
    return [this.#forward.scanned(selected), this.#forward.scanned(selected, aLog)];
  }
}

/** A mixer's convolution, selection and scan. */
class Direction {
  readonly aLog: Parameter;
  readonly #conv: CausalConv1d;
  readonly #selection: SelectiveParameters;
  readonly #skip: Parameter;

  constructor(parameters: ParameterStore, config: MambaMixerConfig, suffix: '' | '_b') {
    const { dInner, dConv, convBias } = config;
    this.aLog = aLogOf(parameters, config, suffix);
    this.#skip = parameters.get(`D${suffix}`, { shape: [dInner], initialiser: mambaInitialisers(config).skip, decay: false });
    this.#conv = new CausalConv1d(parameters.at(`conv1d${suffix}`), { channels: dInner, width: dConv, bias: convBias });
    this.#selection = new SelectiveParameters(parameters, config, { suffix, plainStart: suffix !== '' });
  }

  scan(inner: Tensor): Tensor {
    return this.scanned(this.select(inner));
  }

  select(inner: Tensor) {
    const u = this.#conv.forward(inner, {}).y;
    return { u, ...this.#selection.select(u, {}) };
  }

  /** @param backwards A_log of a scan from the end; none: this direction's own, from the beginning */
  scanned({ u, delta, B, C }: ReturnType<Direction['select']>, backwards?: Parameter): Tensor {
    const A = negate(exp((backwards ?? this.aLog).tensor));
    const options = { D: this.#skip.tensor, deltaBias: this.#selection.dtBias.tensor, deltaSoftplus: true, reverse: backwards !== undefined };
    return selectiveScan(u, delta, A, B, C, options).y;
  }
}

const aLogOf = (parameters: ParameterStore, config: MambaMixerConfig, suffix: '' | '_b'): Parameter => {
  const shape = [config.dInner, config.dState];
  return parameters.get(suffix === '' ? 'A_log' : 'A_b_log', { shape, initialiser: mambaInitialisers(config).aLog, decay: false });
};

/** A mixer that reads each sequence from its end. */
export class Reversed implements SequenceMixer {
  readonly #mixer: SequenceMixer;

  constructor(mixer: SequenceMixer) {
    this.#mixer = mixer;
  }

  /** @param x [B,L,D] @returns [B,L,D] */
  forward(x: Tensor): Tensor<FloatDType> {
    return scope(() => flip(this.#mixer.forward(flip(x), {})));
  }
}
