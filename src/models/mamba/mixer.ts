import { mixerStep } from '../../ops/block-step/mixer-step.js';
import { exp, negate, selectiveScan, split, type BlockStepWeights } from '../../ops/index.js';
import { CausalConv1d, fanIn, Linear, type Parameter, type ParameterStore } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import type { MambaConfig } from './config.js';
import { mambaInitialisers } from './initialisers.js';
import { ConstantParameters, SelectiveParameters, type Selection } from './selection.js';

/** The recurrent state of one mixer: the last K−1 inputs of the convolution and the scan's state. */
export interface MixerState {
  /** [B,K−1,E] */
  readonly conv: Tensor<'f32'>;
  /** [B,E,N] */
  readonly ssm: Tensor<'f32'>;
}

/** What a pass over a sequence may be told besides its input. */
export interface MixerOptions {
  /** The state after what came before; none: zeros. */
  readonly initialState?: MixerState | undefined;
  /** Where the state after the last position is written, other memory than the initial state's; default: new tensors. */
  readonly finalState?: MixerState | undefined;
  /** [B,L] i32, nonzero where a document starts. */
  readonly sequenceStarts?: Tensor | undefined;
  /** What `transition()` gave [E,N]: no gradient goes through it to A_log. Default: it is worked out. */
  readonly transition?: Tensor | undefined;
}

/**
 * The Mamba mixer (paper, figure 3 and algorithm 2): project to x and z, convolve x, let it choose Δ, B and C, scan, gate
 * by z, project back. With `ssm: 'lti'`, Δ, B and C are parameters instead. Keys: in_proj, conv1d, A_log, D, out_proj, and
 * those of `SelectiveParameters` or `ConstantParameters`.
 */
export class MambaMixer {
  readonly config: MambaConfig;
  readonly inProj: Linear;
  readonly conv: CausalConv1d;
  readonly selection: Selection;
  readonly aLog: Parameter;
  readonly skip: Parameter;
  readonly outProj: Linear;

  constructor(parameters: ParameterStore, config: MambaConfig) {
    const { dModel, dInner, dState, dConv, ssm, projectionBias, convBias } = config;
    const { aLog, skip, outputGain } = mambaInitialisers(config);
    this.config = config;
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

  /** A = −exp(A_log), [E,N]. */
  transition(): Tensor<FloatDType> {
    return scope(() => negate(exp(this.aLog.tensor)));
  }

  /**
   * A whole sequence, or a piece of one.
   * @param x [B,L,D]
   * @returns y [B,L,D] and the state after the last position
   */
  forward(x: Tensor, options: MixerOptions = {}): { y: Tensor<FloatDType>; finalState: MixerState } {
    return scope(() => {
      const { initialState, finalState, sequenceStarts, transition = this.transition() } = options;
      const [inner, z] = split(this.inProj.forward(x), [this.config.dInner, this.config.dInner]) as [Tensor, Tensor];
      const conv = this.conv.forward(inner, { initialState: initialState?.conv, finalState: finalState?.conv, sequenceStarts });
      const { delta, B, C } = this.selection.select(conv.y);
      const scan = selectiveScan(conv.y, delta, transition, B, C, {
        ...{ D: this.skip.tensor, z, deltaBias: this.selection.dtBias.tensor, deltaSoftplus: true },
        initialState: initialState?.ssm,
        finalState: finalState?.ssm,
        sequenceStarts,
      });
      return { y: this.outProj.forward(scan.y), finalState: { conv: conv.finalState, ssm: scan.finalState } };
    });
  }

  /**
   * One position; not recorded for gradients.
   * @param xz what `inProj` makes of it, [B,2E]
   * @param state updated in place
   * @param transition what `transition()` gave, so that a captured step need not work it out again
   * @returns y [B,D]
   */
  step(xz: Tensor, state: MixerState, transition: Tensor): Tensor<FloatDType> {
    return scope(() => {
      const { selection, skip } = this;
      const weights = { ...this.conv.weights(), dtBias: selection.dtBias.tensor, A: transition, D: skip.tensor };
      return this.outProj.forward(mixerStep(xz, state, { ...weights, select: (u) => selection.select(u) }));
    });
  }

  /** The weights for `blockStep`, but for the norm's; null where there are others as well, or none that select. */
  stepWeights(transition: Tensor): Omit<BlockStepWeights, 'norm'> | null {
    const { selection, inProj, outProj, skip } = this;
    if (!(selection instanceof SelectiveParameters) || inProj.bias !== null || outProj.bias !== null) return null;
    return {
      ...this.conv.weights(),
      ...{ xProj: selection.xProj.weight.tensor, dtProj: selection.dtWeight.tensor, dtBias: selection.dtBias.tensor },
      ...{ inProj: inProj.weight.tensor, outProj: outProj.weight.tensor, A: transition, D: skip.tensor },
    };
  }
}
