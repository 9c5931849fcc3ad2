import { constant, fanIn, Linear, normal, type Memory, type Mixer, type Normed, type Parameter, type ParameterStore, type Pass, type Slot, type StepPass } from '../../nn/index.js';
import { add, affine, cast, concatenate, exp, fftConv, gelu, reshape, split } from '../../ops/index.js';
import { gbt, type DiscreteDenseSystem } from '../../ops/lssl/gbt.js';
import { krylovKernel } from '../../ops/lssl/krylov.js';
import { denseScan, denseStep, stepMatrix } from '../../ops/lssl/recurrence.js';
import { stacked } from '../../ops/s4/system.js';
import { copyInto } from '../../ops/view/view.js';
import { scope, withRecorder, type FloatDType, type Tensor } from '../../tensor/index.js';
import type { LsslConfig } from './config.js';
import { Transition } from './transition.js';

/** What a pass of an LSSL may be told besides. */
export interface LsslPass extends Pass {
  /** How much longer a step is than in training: 2 for a signal at half the sampling rate. Default 1. Without `constants`, which are of one rate. */
  readonly rate?: number | undefined;
}

/**
 * A linear state-space layer (Gu et al. 2021, "Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space
 * Layers"), the ancestor of S4: each feature has a real dense system x′ = A·x + B·u, y = C·x + D·u (+ E), made discrete by the trapezoidal
 * rule, then GELU and a product that mixes features.
 *
 * A pass over a sequence that needs no state is a convolution by FFT with a Krylov kernel; one that is told of a state or of documents runs
 * the recurrence, one position after another. Both give the same. It computes in float32, and is for small N.
 *
 * Keys, as in the official code: C [H,M,N], D and, with a bias, E [H,M], log_dt [H], transition.* (`Transition`), output_linear. It remembers
 * the state, [H,N].
 */
export class Lssl implements Mixer {
  readonly slots: Readonly<Record<'ssm', Slot>>;
  readonly config: LsslConfig;
  readonly transition: Transition;
  readonly C: Parameter;
  readonly D: Parameter;
  readonly E: Parameter | null;
  readonly logDt: Parameter;
  readonly outputLinear: Linear;

  constructor(parameters: ParameterStore, config: LsslConfig) {
    const { dModel, dState, channels, dtMin, dtMax, bias } = config;
    this.config = config;
    this.slots = { ssm: { shape: [dModel, dState] } };
    this.C = parameters.get('C', { shape: [dModel, channels, dState], initialiser: normal(1) });
    this.D = parameters.get('D', { shape: [dModel, channels], initialiser: normal(1), decay: false });
    this.E = bias ? parameters.get('E', { shape: [dModel, channels], initialiser: constant(0), decay: false }) : null;
    const range = Math.log(dtMax / dtMin);
    this.logDt = parameters.get('log_dt', {
      shape: [dModel],
      initialiser: (_, random) => Float32Array.from({ length: dModel }, () => Math.log(dtMin) + range * random.uniform()),
      decay: false,
    });
    this.transition = new Transition(parameters.at('transition'), config);
    const inputs = channels * dModel;
    this.outputLinear = new Linear(parameters.at('output_linear'), { inputs, outputs: dModel, bias: true, biasInitialiser: fanIn(inputs) });
  }

  /** Ā − 1 and B̄ of every feature. @param rate as in `LsslPass` */
  discrete(rate = 1): DiscreteDenseSystem {
    return scope(() => {
      const made = () => scope(() => affine(exp(this.logDt.tensor), rate));
      const dt = this.config.learnSteps ? made() : withRecorder(null, made);
      return gbt(this.transition.system(), dt);
    });
  }

  /** The convolution kernels, [H,M,L]. @param rate as in `LsslPass` */
  kernel(length: number, rate = 1): Tensor {
    return scope(() => krylovKernel(this.C.tensor, this.discrete(rate), length));
  }

  /** The matrix of a step (`stepMatrix`). @param rate as in `LsslPass` */
  constants(rate = 1): { readonly step: Tensor } {
    return scope(() => ({ step: stepMatrix(this.discrete(rate), this.C.tensor, this.D.tensor) }));
  }

  /** [B,L,H] → [B,L,H] */
  forward(x: Tensor, pass: LsslPass = {}): Tensor<FloatDType> {
    return scope(() => {
      const u = cast(x, 'f32');
      const { before, after, starts, constants, rate } = pass;
      if ((before ?? after ?? starts) === undefined) return this.#out(x, this.#convolved(u, rate));
      const { step } = (constants ?? this.constants(rate)) as Memory & { readonly step: Tensor };
      const { y, finalState } = denseScan(u, step, { initialState: before?.['ssm'], sequenceStarts: starts });
      if (after !== undefined) copyInto(finalState, after['ssm'] as Tensor);
      return this.#out(x, y);
    });
  }

  step(x: Normed, { memory, constants }: StepPass): Tensor<FloatDType> {
    const input = x.value();
    return scope(() => {
      const { step } = constants as Memory & { readonly step: Tensor };
      return this.#out(input, denseStep(memory['ssm'] as Tensor, cast(input, 'f32'), step));
    });
  }

  /** [B,L,H] → [B,L,H·M] */
  #convolved(u: Tensor, rate?: number): Tensor {
    const { channels, dModel } = this.config;
    const [, length = 0] = u.shape;
    const y = fftConv(u, channelsFirst(this.kernel(length, rate)), { D: reshape(channelsFirst(reshape(this.D.tensor, [dModel, channels, 1])), [channels, dModel]) });
    if (channels === 1) return y;
    // From channel after channel to feature after feature.
    const parts = split(y, new Array<number>(channels).fill(dModel)).map((part) => reshape(part, [part.size, 1]));
    return reshape(concatenate(parts), y.shape);
  }

  /** @param x the layer's input @param y [...,H·M] */
  #out(x: Tensor, y: Tensor): Tensor<FloatDType> {
    const shifted = this.E === null ? y : add(y, reshape(this.E.tensor, [this.E.tensor.size]));
    return this.outputLinear.forward(cast(gelu(shifted), x.dtype as FloatDType));
  }
}

/** [H,M,K] as [M,H,K]. */
function channelsFirst(x: Tensor): Tensor {
  return scope(() => {
    const [features = 0, channels = 0, columns = 0] = x.shape;
    if (channels === 1) return reshape(x, [1, features, columns]);
    return stacked(split(reshape(x, [features, channels * columns]), new Array<number>(channels).fill(columns)).map((part) => reshape(part, [features, columns])));
  });
}
