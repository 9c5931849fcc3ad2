// A family of one's own: every channel remembers a moving average of its inputs, with a rate that is learnt.
import { full, nn, selectiveScan, selectiveScanStep, silu, zeros } from 'elapid';

/** h ← exp(−Δ)·h + Δ·u, y = h, with Δ = softplus(rate): the selective scan without its selection. */
class MovingAverage {
  constructor(parameters, { dModel }) {
    this.slots = { average: { shape: [dModel, 1] } };
    this.input = new nn.Linear(parameters.at('input'), { inputs: dModel, outputs: dModel, bias: true });
    this.output = new nn.Linear(parameters.at('output'), { inputs: dModel, outputs: dModel, bias: true });
    this.rate = parameters.get('rate', { shape: [dModel], initialiser: nn.uniform(3), decay: false });
    this.options = () => ({ deltaBias: this.rate.tensor, deltaSoftplus: true });
  }

  constants() {
    return { A: full(this.rate.tensor.backend, [this.rate.tensor.size, 1], -1) };
  }

  forward(x, { before, after, starts, constants = this.constants() }) {
    const u = this.input.forward(x);
    const ones = full(u.backend, [...u.shape.slice(0, -1), 1], 1);
    const memory = { initialState: before?.average, finalState: after?.average, sequenceStarts: starts };
    return this.output.forward(silu(selectiveScan(u, zeros(u.backend, u.shape), constants.A, ones, ones, { ...memory, ...this.options() }).y));
  }

  step(x, { memory, constants }) {
    const u = x.project(this.input);
    const ones = full(u.backend, [u.rows, 1], 1);
    return this.output.forward(silu(selectiveScanStep(memory.average, u, zeros(u.backend, u.shape), constants.A, ones, ones, this.options())));
  }
}

/** @type {import('elapid').ModelFamily<import('elapid').BaseConfig>} */
export const movingAverageFamily = {
  name: 'moving-average',
  modelTypes: ['moving-average'],
  configOf: (options) => ({ vocabularySize: 256, dModel: 64, layers: 2, tiedHead: true, endOfText: [], ...options }),
  read: (json) => movingAverageFamily.configOf(json),
  write: (config) => ({ ...config, model_type: 'moving-average' }),
  problemOf: ({ dModel, layers }) => (dModel > 0 && layers > 0 ? undefined : { argument: '[dModel, layers]', expected: 'positive numbers', got: `[${dModel}, ${layers}]` }),
  facts: ({ dModel, layers }) => [['layers', `${layers} moving averages of ${dModel} channels`]],
  build(parameters, { vocabularySize, dModel, layers }) {
    const backbone = parameters.at('backbone');
    const norm = (at) => new nn.Norm(at, { size: dModel, kind: 'rms', epsilon: 1e-5 });
    const block = (at) => new nn.Block([{ name: 'mixer', norm: norm(at.at('norm')), mixer: new MovingAverage(at.at('mixer'), { dModel }) }]);
    const embeddings = new nn.Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation: 0.1 });
    const blocks = Array.from({ length: layers }, (_, i) => block(backbone.at('layers').at(String(i))));
    return { embeddings, blocks, finalNorm: norm(backbone.at('norm_f')), head: null };
  },
};
