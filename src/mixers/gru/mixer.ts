import { fanIn, Linear, type Memory, type Mixer, type Normed, type ParameterStore, type Pass, type Slot, type StepPass } from '../../nn/index.js';
import { continuations } from '../../ops/causal-conv1d/continuations.js';
import { add, concatenate, gated, multiply, reshape, split, subtract, tanh, zeros } from '../../ops/index.js';
import { copyInto } from '../../ops/view/view.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';

/**
 * A gated recurrent unit (Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder"), in the form of PyTorch's
 * `nn.GRU` and with its parameters, in the order r, z, n: `weight_ih` and `weight_hh` [3D,D], `bias_ih` and `bias_hh` [3D].
 *
 *     r = σ(W_ir·x + b_ir + W_hr·h + b_hr)
 *     z = σ(W_iz·x + b_iz + W_hz·h + b_hz)
 *     n = tanh(W_in·x + b_in + r ⊙ (W_hn·h + b_hn))
 *     h ← (1 − z) ⊙ n + z ⊙ h
 *
 * Its output is h itself, so that a layer is comparable with one of `nn.GRU`: the next layer's weights mix the channels as an output
 * projection would. It computes in float32, one position after another. It remembers h.
 */
export class GruMixer implements Mixer {
  readonly slots: Readonly<Record<'h', Slot>>;
  readonly input: Linear;
  readonly hidden: Linear;
  readonly #width: number;

  constructor(parameters: ParameterStore, { dModel }: { readonly dModel: number }) {
    const sizes = { inputs: dModel, outputs: 3 * dModel, bias: true, biasInitialiser: fanIn(dModel) };
    this.slots = { h: { shape: [dModel] } };
    this.input = new Linear(parameters, { ...sizes, names: ['weight_ih', 'bias_ih'] });
    // The recurrence multiplies by it at every position.
    this.hidden = new Linear(parameters, { ...sizes, names: ['weight_hh', 'bias_hh'], packing: 'atLeastInt8' });
    this.#width = dModel;
  }

  forward(x: Tensor, { before, after, starts }: Pass = {}): Tensor<FloatDType> {
    return scope(() => {
      const [batch = 0, length = 0] = x.shape;
      const width = this.#width;
      const input = reshape(this.input.forward(x, { dtype: 'f32' }), [batch, length * 3 * width]);
      const gates = split(input, Array.from({ length: 2 * length }, (_, i) => (i % 2 === 0 ? 2 * width : width)));
      const kept = starts && split(reshape(continuations(starts), [batch, length]), new Array<number>(length).fill(1));
      let h: Tensor = before?.['h'] ?? zeros(x.backend, [batch, width]);
      const outputs = Array.from({ length }, (_, t) => {
        h = this.#cell(gates[2 * t] as Tensor, gates[2 * t + 1] as Tensor, kept === undefined ? h : multiply(h, kept[t] as Tensor));
        return h;
      });
      if (after !== undefined) copyInto(h, after['h'] as Tensor);
      return reshape(concatenate(outputs), [batch, length, width]);
    });
  }

  step(x: Normed, { memory }: StepPass): Tensor<FloatDType> {
    const input = x.project(this.input);
    const { h: before } = memory as Memory & { readonly h: Tensor };
    return scope(() => {
      const [gates, candidate] = split(input, [2 * this.#width, this.#width]) as [Tensor, Tensor];
      const h = this.#cell(gates, candidate, before);
      copyInto(h, before);
      return h;
    });
  }

  /** The next h. @param gates [B,2D], W_i·x + b_i of r and z @param candidate [B,D], that of n @param h [B,D] */
  #cell(gates: Tensor, candidate: Tensor, h: Tensor): Tensor<FloatDType> {
    return scope(() => {
      const width = this.#width;
      const [hiddenGates, hiddenCandidate] = split(this.hidden.forward(h), [2 * width, width]) as [Tensor, Tensor];
      const [r, z] = split(add(hiddenGates, gates), [width, width]) as [Tensor, Tensor];
      const n = tanh(add(gated(r, hiddenCandidate, 'sigmoid'), candidate));
      return add(n, gated(z, subtract(h, n), 'sigmoid'));
    });
  }
}
