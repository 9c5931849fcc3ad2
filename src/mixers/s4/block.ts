import { fanIn, Linear, normal, type Memory, type Mixer, type Normed, type Parameter, type ParameterStore, type Pass, type Slot, type StepPass } from '../../nn/index.js';
import { cast, fftConv, gated, gelu, ltiScan, ltiStep, multiply, relu, reshape, sigmoid, silu, split, tanh } from '../../ops/index.js';
import { unstacked } from '../../ops/s4/system.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import type { S4Activation, S4Config } from './config.js';
import { StateSpace } from './parameters.js';

/** What a pass of an S4 block may be told besides. */
export interface S4Pass extends Pass {
  /** How much longer a step is than in training: 2 for a signal at half the sampling rate. Default 1. Without `constants`, which are of one rate. */
  readonly rate?: number | undefined;
  /**
   * [B,L] f32: the time from the position before to each one, in steps of training. It runs the recurrence, of diagonal systems alone. Default:
   * all steps are alike.
   */
  readonly steps?: Tensor | undefined;
}

const functions: Readonly<Record<S4Activation, (x: Tensor) => Tensor>> = { none: (x) => x, gelu, relu, tanh, sigmoid, silu };

/**
 * The block of S4 and S4D (Gu, Goel & Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces"; Gu et al. 2022, "On the
 * Parameterization and Initialization of Diagonal State Space Models"): each feature is filtered by its own linear system, y = K∗x + D⊙x, then
 * a nonlinearity, and a product that mixes features, behind a gated linear unit.
 *
 * A pass over a sequence that needs no state is a convolution by FFT; one that is told of a state, of documents or of steps runs the
 * recurrence. Both give the same. It computes in float32.
 *
 * Keys, as in the official code: layer.D [C,H], layer.kernel.* (`StateSpace`), output_linear.0, and with a gate input_gate.0 and
 * output_gate. It remembers the state, complex [H,N/2,2].
 */
export class S4Block implements Mixer {
  readonly slots: Readonly<Record<string, Slot>>;
  readonly space: StateSpace;
  readonly skip: Parameter;
  readonly inputGate: Linear | null;
  readonly outputGate: Linear | null;
  readonly outputLinear: Linear | null;
  readonly config: S4Config;

  constructor(parameters: ParameterStore, config: S4Config) {
    const { dModel, dState, channels, real, gate, output } = config;
    const width = dModel * Math.max(gate, 1);
    const layer = parameters.at('layer');
    this.config = config;
    this.slots = { ssm: { shape: [dModel, real ? dState : dState / 2, 2] } };
    this.skip = layer.get('D', { shape: [channels, dModel], initialiser: normal(1) });
    this.space = new StateSpace(layer.at('kernel'), config);
    const made = (at: ParameterStore, inputs: number, outputs: number) => new Linear(at, { inputs, outputs, bias: true, biasInitialiser: fanIn(inputs) });
    const inner = gate === 0 ? channels * dModel : width;
    this.inputGate = gate === 0 ? null : made(parameters.at('input_gate').at('0'), dModel, width);
    this.outputGate = gate === 0 || channels * dModel === width ? null : made(parameters.at('output_gate'), channels * dModel, width);
    this.outputLinear = output === 'none' ? null : made(parameters.at('output_linear').at('0'), inner, output === 'glu' ? 2 * dModel : dModel);
  }

  /** What steps need of the state space. @param rate as in `S4Pass` */
  constants(rate = 1): Memory {
    return this.#recurrent ? this.space.constants(rate) : {};
  }

  /**
   * [B,L,H] → [B,L,H], or [B,L,C·H] where nothing mixes channels at the end.
   * @throws ArgumentError for a state, documents or steps of a block that is a convolution only
   */
  forward(x: Tensor, pass: S4Pass = {}): Tensor<FloatDType> {
    return scope(() => {
      const u = cast(x, 'f32');
      const { before, after, starts, steps } = pass;
      const y = before ?? after ?? starts ?? steps ? this.#scan(u, pass) : this.#convolve(u, pass.rate);
      return this.#out(x, y);
    });
  }

  step(x: Normed, { memory, constants }: StepPass): Tensor<FloatDType> {
    const input = x.value();
    return scope(() => {
      this.#expectRecurrent('a step');
      const { change, input: weights, C, left, right } = constants as Memory & Record<'change' | 'input' | 'C', Tensor>;
      return this.#out(input, ltiStep(memory['ssm'] as Tensor, cast(input, 'f32'), { change, input: weights, C, D: this.skip.tensor, left, right }));
    });
  }

  get #recurrent(): boolean {
    return !this.config.bidirectional && !this.config.dss;
  }

  #expectRecurrent(what: string): void {
    if (this.#recurrent) return;
    const argument = this.config.dss ? 'dss' : 'bidirectional';
    throw new ArgumentError({ operation: 'S4Block', argument, expected: `false, for ${what}`, got: 'true', hint: 'such a block is a convolution over a whole sequence' });
  }

  #convolve(u: Tensor, rate = 1): Tensor {
    const { bidirectional, channels } = this.config;
    const length = u.shape[1] ?? 0;
    const D = this.skip.tensor;
    const K = this.space.kernel(length, rate);
    if (!bidirectional) return fftConv(u, K, { D });
    const [forwards, backwards] = unstacked(reshape(K, [2, channels, ...K.shape.slice(1)])) as [Tensor, Tensor];
    return fftConv(u, forwards, { D, reverseKernel: backwards });
  }

  #scan(u: Tensor, { before, after, starts, constants, rate = 1, steps }: S4Pass): Tensor {
    this.#expectRecurrent('a state, documents or steps');
    const D = this.skip.tensor;
    const options = { initialState: before?.['ssm'], finalState: after?.['ssm'], sequenceStarts: starts };
    if (steps !== undefined) {
      const { a, b, p, discretization } = this.space.system(rate);
      if (p.length > 0) {
        throw new ArgumentError({ operation: 'S4Block', argument: 'steps', expected: 'none, where A is more than diagonal', got: 'a tensor', hint: 'S4D takes steps of any length' });
      }
      return ltiScan(u, { change: a, input: b, C: this.space.outputs(), D }, { ...options, steps, discretization }).y;
    }
    const { change, input, C, left, right } = (constants ?? this.space.constants(rate)) as Memory & Record<'change' | 'input' | 'C', Tensor>;
    return ltiScan(u, { change, input, C, D, left, right }, options).y;
  }

  /** @param x the block's input @param y what the layer made of it, [...,C·H] */
  #out(x: Tensor, y: Tensor): Tensor<FloatDType> {
    const { gateActivation, multActivation, activation, output } = this.config;
    const dtype = x.dtype as FloatDType;
    let inner = functions[activation](y);
    if (this.inputGate !== null) {
      const gate = functions[gateActivation](this.inputGate.forward(x, { dtype: 'f32' }));
      inner = multiply(this.outputGate === null ? inner : this.outputGate.forward(inner), gate);
    }
    inner = functions[multActivation](inner);
    if (this.outputLinear === null) return cast(inner, dtype);
    const z = this.outputLinear.forward(cast(inner, dtype));
    if (output !== 'glu') return z;
    const { dModel } = this.config;
    const [up, gate] = split(z, [dModel, dModel]) as [Tensor, Tensor];
    return gated(gate, up, 'sigmoid');
  }
}
