import { mixerStep, type MixerStepState } from '../../ops/block-step/mixer-step.js';
import { exp, negate, selectiveScan, split } from '../../ops/index.js';
import { blockStep } from '../../ops/block-step/block-step.js';
import { CausalConv1d, fanIn, Linear } from '../../nn/index.js';
import type { FusedStep, Memory, Mixer, Norm, Normed, Parameter, ParameterStore, Pass, Slot, StepPass } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import type { MambaMixerConfig } from './config.js';
import { mambaInitialisers } from './initialisers.js';
import { ConstantParameters, SelectiveParameters, type Selection } from './selection.js';

/**
 * The Mamba mixer (paper, figure 3 and algorithm 2): project to x and z, convolve x, let it choose Δ, B and C, scan, gate
 * by z, project back. With `ssm: 'lti'`, Δ, B and C are parameters instead. Keys: in_proj, conv1d, A_log, D, out_proj, and
 * those of `SelectiveParameters` or `ConstantParameters`. It remembers the last K−1 inputs of the convolution and the scan's state.
 */
export class MambaMixer implements Mixer {
  readonly slots: Readonly<Record<'conv' | 'ssm', Slot>>;
  readonly inProj: Linear;
  readonly conv: CausalConv1d;
  readonly selection: Selection;
  readonly aLog: Parameter;
  readonly skip: Parameter;
  readonly outProj: Linear;
  readonly #dInner: number;

  constructor(parameters: ParameterStore, config: MambaMixerConfig) {
    const { dModel, dInner, dState, dConv, ssm, projectionBias, convBias } = config;
    const { aLog, skip, outputGain } = mambaInitialisers(config);
    this.slots = { conv: { shape: [dConv - 1, dInner] }, ssm: { shape: [dInner, dState] } };
    this.#dInner = dInner;
    this.aLog = parameters.get('A_log', { shape: [dInner, dState], initialiser: aLog, decay: false });
    this.skip = parameters.get('D', { shape: [dInner], initialiser: skip, decay: false });
    this.inProj = new Linear(parameters.at('in_proj'), { inputs: dModel, outputs: 2 * dInner, bias: projectionBias });
    this.conv = new CausalConv1d(parameters.at('conv1d'), { channels: dInner, width: dConv, bias: convBias });
    this.selection = ssm === 's6' ? new SelectiveParameters(parameters, config) : new ConstantParameters(parameters, config);
    this.outProj = new Linear(parameters.at('out_proj'), {
      inputs: dInner,
      outputs: dModel,
      bias: projectionBias,
      initialiser: fanIn(dInner, outputGain),
    });
  }

  /** A = −exp(A_log), [E,N], and what the selection needs. */
  constants(): Memory {
    return scope(() => ({ A: negate(exp(this.aLog.tensor)), ...this.selection.constants() }));
  }

  forward(x: Tensor, { before, after, starts, constants }: Pass = {}): Tensor<FloatDType> {
    return scope(() => {
      const { A, ...others } = constants ?? this.constants();
      const [inner, z] = split(this.inProj.forward(x), [this.#dInner, this.#dInner]) as [Tensor, Tensor];
      const conv = this.conv.forward(inner, { initialState: before?.['conv'], finalState: after?.['conv'], sequenceStarts: starts });
      const { delta, B, C } = this.selection.select(conv.y, others);
      const scan = selectiveScan(conv.y, delta, A as Tensor, B, C, {
        ...{ D: this.skip.tensor, z, deltaBias: this.selection.dtBias.tensor, deltaSoftplus: true },
        ...{ initialState: before?.['ssm'], finalState: after?.['ssm'], sequenceStarts: starts },
      });
      return this.outProj.forward(scan.y);
    });
  }

  step(x: Normed, { memory, constants }: StepPass): Tensor<FloatDType> {
    const { selection, skip } = this;
    const { A, ...others } = constants;
    const weights = { ...this.conv.weights(), dtBias: selection.dtBias.tensor, A: A as Tensor, D: skip.tensor };
    const select = (u: Tensor) => selection.select(u, others);
    return this.outProj.forward(mixerStep(x.project(this.inProj), memory as Memory & MixerStepState, { ...weights, select }));
  }

  /** `blockStep`; null where there are other weights than it takes, or none that select. */
  fuse({ kind, epsilon, weight: norm }: Norm): FusedStep | null {
    const { selection, skip } = this;
    if (kind !== 'rms' || this.inProj.bias !== null || this.outProj.bias !== null) return null;
    const [inProj, outProj] = [this.inProj.plain(), this.outProj.plain()];
    const selecting = selection instanceof SelectiveParameters ? selection.plain() : null;
    if (inProj === null || outProj === null || selecting === null) return null;
    return {
      parts: 'mamba',
      run: (x, residual, { memory, constants }, parts) =>
        scope(() => {
          const weights = { norm: norm.tensor, inProj, outProj, ...selecting, ...this.conv.weights(), A: constants['A'] as Tensor, D: skip.tensor };
          return blockStep(x, memory as Memory & MixerStepState, weights, { residual, epsilon, parts });
        }),
    };
  }
}
