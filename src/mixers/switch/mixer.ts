import { experts, routeTokens } from '../../ops/index.js';
import { truncatedNormal, type Mixer, type Normed, type Parameter, type ParameterStore, type Pass } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { switchMatrixSize, type SwitchConfig } from './config.js';

/** Scale of the initial weights: their variance is a tenth of 1/fan-in (Fedus et al. 2021, section 2.4). */
const scale = 0.1;

/** Normal numbers of variance 0.1/fanIn, cut as the official code of MoE-Mamba cuts them. */
const small = (fanIn: number) => truncatedNormal(Math.sqrt(scale / fanIn), 2 * scale);

/**
 * A Switch layer ("Switch Transformers", Fedus et al. 2021): a router sends each token through one of E feed-forward layers, y = p·relu(x·W₁)·W₂ with
 * p the router's probability of it. Keys, as in the official code of MoE-Mamba: `gate` [D,E], `lin1_weight` [E,D,F], `lin2_weight` [E,F,D]. It
 * remembers nothing.
 *
 * In training (`Pass.auxiliary`) an expert takes the first ⌊capacityFactor·n/E⌋ of a batch's n tokens that choose it, in the order of
 * [B,L]; of the others only the residual stream goes on. It tells of the losses `balance` and `z` and of the share of tokens `dropped`. Otherwise,
 * as in evaluation and generation, experts take all tokens that choose them.
 */
export class Switch implements Mixer {
  readonly slots = {};
  readonly gate: Parameter;
  readonly first: Parameter;
  readonly second: Parameter;
  readonly config: SwitchConfig;
  readonly idleParameters: number;

  constructor(parameters: ParameterStore, config: SwitchConfig) {
    const { dModel, experts: count, expertSize } = config;
    const { total, active } = switchMatrixSize(config);
    this.config = config;
    this.idleParameters = total - active;
    this.gate = parameters.get('gate', { shape: [dModel, count], initialiser: small(dModel) });
    this.first = parameters.get('lin1_weight', { shape: [count, dModel, expertSize], initialiser: small(dModel) });
    this.second = parameters.get('lin2_weight', { shape: [count, expertSize, dModel], initialiser: small(count * expertSize) });
  }

  forward(x: Tensor, { auxiliary }: Pass = {}): Tensor<FloatDType> {
    const { capacityFactor, balanceWeight: balance, zWeight: z } = this.config;
    return scope(() => {
      const training = auxiliary === undefined ? {} : { capacityFactor, losses: { balance, z } };
      const { routing, gates, auxiliary: told } = routeTokens(x, this.gate.tensor, training);
      if (auxiliary !== undefined && told !== null) {
        if (balance > 0) auxiliary.loss('balance', told.balance);
        if (z > 0) auxiliary.loss('z', told.z);
        auxiliary.measure('dropped', told.dropped);
      }
      return experts(x, gates, routing, this.first.tensor, this.second.tensor);
    });
  }

  step(x: Normed): Tensor<FloatDType> {
    return this.forward(x.value());
  }
}
