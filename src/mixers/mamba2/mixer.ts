import { CausalConv1d, constant, fanIn, Linear } from '../../nn/index.js';
import type { FusedStep, Memory, Mixer, Norm, Normed, Parameter, ParameterStore, Pass, Slot, StepPass } from '../../nn/index.js';
import { ssdBlockStep } from '../../ops/block-step/ssd-block-step.js';
import type { SsdMixerState } from '../../ops/block-step/ssd-mixer-step.js';
import { concatenate, exp, gated, gatedRmsNorm, negate, split, ssd, ssdStep } from '../../ops/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { headsOf, type Mamba2MixerConfig } from './config.js';
import { mamba2Initialisers } from './initialisers.js';

/** What in_proj gives, in parts [...,·]. */
interface Projected {
  /** The gated unit beside the state space model, silu(z0) ⊙ x0, [...,E − H·P]; null where there is none. */
  readonly unit: Tensor | null;
  /** [...,H·P] */
  readonly z: Tensor;
  /** x, B and C side by side, before the convolution, [...,H·P + 2·G·N]. */
  readonly inner: Tensor;
  /** Δ before bias and softplus, [...,H]. */
  readonly delta: Tensor;
}

/**
 * The Mamba-2 mixer ("Transformers are SSMs", Dao & Gu 2024, section 7): project to z, x, B, C and Δ at once, convolve x, B and C, run the
 * state space model with one A a head (`ssd`), norm what z gates, project back. Where E > H·P, the other channels are a gated unit, which
 * comes first in out_proj's input. Keys: in_proj, conv1d, dt_bias, A_log, D, norm, out_proj. It remembers the last K−1 inputs of the
 * convolution and the state.
 */
export class Mamba2Mixer implements Mixer {
  readonly slots: Readonly<Record<'conv' | 'ssm', Slot>>;
  readonly inProj: Linear;
  readonly conv: CausalConv1d;
  readonly dtBias: Parameter;
  readonly aLog: Parameter;
  readonly skip: Parameter;
  readonly norm: Parameter | null;
  readonly outProj: Linear;
  readonly #config: Mamba2MixerConfig;

  /** @param options.outputGain factor on the bound of out_proj's initial weights */
  constructor(parameters: ParameterStore, config: Mamba2MixerConfig, { outputGain = 1 }: { readonly outputGain?: number } = {}) {
    const { dModel, dInner, dSsm, dState, dConv, headSize, groups, skipPerChannel, gatedNorm, projectionBias: bias, convBias } = config;
    const { aLog, dtBias, conv } = mamba2Initialisers(config);
    const heads = headsOf(config);
    const channels = dSsm + 2 * groups * dState;
    const small = { decay: false } as const;
    this.slots = { conv: { shape: [dConv - 1, channels] }, ssm: { shape: [heads, headSize, dState] } };
    this.#config = config;
    this.dtBias = parameters.get('dt_bias', { shape: [heads], initialiser: dtBias, ...small });
    this.aLog = parameters.get('A_log', { shape: [heads], initialiser: aLog, ...small });
    this.skip = parameters.get('D', { shape: [skipPerChannel ? dSsm : heads], initialiser: constant(1), ...small });
    this.inProj = new Linear(parameters.at('in_proj'), { inputs: dModel, outputs: 2 * dInner + 2 * groups * dState + heads, bias });
    this.conv = new CausalConv1d(parameters.at('conv1d'), { channels, width: dConv, bias: convBias, initialiser: conv });
    this.norm = gatedNorm === null ? null : parameters.at('norm').get('weight', { shape: [dSsm], initialiser: constant(1), ...small });
    this.outProj = new Linear(parameters.at('out_proj'), { inputs: dInner, outputs: dModel, bias, initialiser: fanIn(dInner, outputGain) });
  }

  /** A = −exp(A_log), [H] */
  constants(): Memory {
    return scope(() => ({ A: negate(exp(this.aLog.tensor)) }));
  }

  forward(x: Tensor, { before, after, starts, constants }: Pass = {}): Tensor<FloatDType> {
    return scope(() => {
      const { A } = constants ?? this.constants();
      const { inner, delta, ...rest } = this.#cut(this.inProj.forward(x));
      const conv = this.conv.forward(inner, { initialState: before?.['conv'], finalState: after?.['conv'], sequenceStarts: starts });
      const [u, B, C] = this.#parts(conv.y);
      const { y } = ssd(u, delta, A as Tensor, B, C, {
        ...this.#options(rest.z),
        ...{ initialState: before?.['ssm'], finalState: after?.['ssm'], sequenceStarts: starts },
      });
      return this.#out(y, rest);
    });
  }

  step(x: Normed, { memory, constants }: StepPass): Tensor<FloatDType> {
    const projected = x.project(this.inProj);
    return scope(() => {
      const { inner, delta, ...rest } = this.#cut(projected);
      const [u, B, C] = this.#parts(this.conv.step(memory['conv'] as Tensor, inner));
      return this.#out(ssdStep(memory['ssm'] as Tensor, u, delta, constants['A'] as Tensor, B, C, this.#options(rest.z)), rest);
    });
  }

  /** `ssdBlockStep`; null where the mixer has more than that knows, or its layers do more than multiply. */
  fuse({ kind, epsilon, weight: norm }: Norm): FusedStep | null {
    const { dInner, dSsm, groups, skipPerChannel, gatedNorm, dtLimit: deltaLimits } = this.#config;
    const usual = dInner === dSsm && !skipPerChannel && !(gatedNorm !== null && (gatedNorm.groups !== 1 || gatedNorm.normBeforeGate));
    if (kind !== 'rms' || !usual || this.inProj.bias !== null || this.outProj.bias !== null) return null;
    const [inProj, outProj] = [this.inProj.plain(), this.outProj.plain()];
    if (inProj === null || outProj === null) return null;
    return {
      parts: 'mamba2',
      run: (x, residual, { memory, constants }, parts) =>
        scope(() => {
          const own = { norm: norm.tensor, inProj, outProj, gatedNorm: this.norm?.tensor ?? null, dtBias: this.dtBias.tensor };
          const weights = { ...own, ...this.conv.weights(), A: constants['A'] as Tensor, D: this.skip.tensor };
          const options = { residual, epsilon, gatedEpsilon: gatedNorm?.epsilon, groups, deltaLimits, parts };
          return ssdBlockStep(x, memory as Memory & SsdMixerState, weights, options);
        }),
    };
  }

  #cut(projected: Tensor): Projected {
    const { dInner, dSsm, groups, dState } = this.#config;
    const rest = dInner - dSsm;
    const sizes = [dSsm, dSsm + 2 * groups * dState, headsOf(this.#config)];
    if (rest === 0) {
      const [z, inner, delta] = split(projected, sizes) as [Tensor, Tensor, Tensor];
      return { unit: null, z, inner, delta };
    }
    const [z0, x0, z, inner, delta] = split(projected, [rest, rest, ...sizes]) as [Tensor, Tensor, Tensor, Tensor, Tensor];
    return { unit: gated(z0, x0, 'silu'), z, inner, delta };
  }

  /** x, B and C. */
  #parts(convolved: Tensor): [Tensor, Tensor, Tensor] {
    const { dSsm, groups, dState } = this.#config;
    return split(convolved, [dSsm, groups * dState, groups * dState]) as [Tensor, Tensor, Tensor];
  }

  /** What `ssd` and its step share. Without a norm, z gates there. */
  #options(z: Tensor) {
    const { groups, gatedNorm, dtLimit } = this.#config;
    const deltaLimits = dtLimit[0] === 0 && dtLimit[1] === Infinity ? undefined : dtLimit;
    return { groups, D: this.skip.tensor, z: gatedNorm === null ? z : null, deltaBias: this.dtBias.tensor, deltaSoftplus: true, deltaLimits };
  }

  /** @param y [...,H·P] @returns [...,D] */
  #out(y: Tensor, { unit, z }: Pick<Projected, 'unit' | 'z'>): Tensor<FloatDType> {
    const { gatedNorm } = this.#config;
    const normed = gatedNorm === null || this.norm === null ? y : gatedRmsNorm(y, z, this.norm.tensor, gatedNorm);
    return this.outProj.forward(unit === null ? normed : concatenate([unit, normed]));
  }
}
