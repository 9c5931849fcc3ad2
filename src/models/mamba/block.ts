import { Norm, type ParameterStore } from '../../nn/index.js';
import { blockStep } from '../../ops/index.js';
import { inModule, scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import type { MambaConfig } from './config.js';
import { MambaMixer, type MixerOptions, type MixerState } from './mixer.js';

/** A residual block: residual ← x + residual, x ← mixer(norm(residual)). Keys: norm, mixer. */
export class MambaBlock {
  readonly norm: Norm;
  readonly mixer: MambaMixer;

  constructor(parameters: ParameterStore, config: MambaConfig) {
    this.mixer = new MambaMixer(parameters.at('mixer'), config);
    this.norm = new Norm(parameters.at('norm'), { size: config.dModel, kind: config.norm, epsilon: config.normEpsilon });
  }

  /** @param x [B,L,D], what the block before added @param residual [B,L,D], the stream before that; null for the first */
  forward(x: Tensor, residual: Tensor | null, options: MixerOptions): { x: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
    return scope(() => {
      const normed = inModule('norm', () => this.norm.forward(x, residual));
      const { y } = inModule('mixer', () => this.mixer.forward(normed.y, options));
      return { x: y, residual: normed.residual };
    });
  }

  /**
   * One position.
   * @param x [B,D], what the block before added, or its parts [P,B,D]
   * @param state updated in place
   * @param parts whether the x it returns may be in parts, for a next block
   */
  step(x: Tensor, residual: Tensor | null, state: MixerState, transition: Tensor, parts: boolean): { x: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
    return scope(() => {
      const { kind, epsilon, weight: norm } = this.norm;
      const weights = kind === 'rms' ? this.mixer.stepWeights(transition) : null;
      if (weights !== null) return blockStep(x, state, { norm: norm.tensor, ...weights }, { residual, epsilon, parts });
      const { weight, bias } = this.mixer.inProj;
      const projected = this.norm.project(x, residual, { weight: weight.tensor, bias: bias?.tensor ?? null });
      return { x: this.mixer.step(projected.y, state, transition), residual: projected.residual };
    });
  }
}
