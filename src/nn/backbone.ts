import { affine } from '../ops/index.js';
import { inModule, scope, type FloatDType, type Tensor } from '../tensor/index.js';
import type { Block } from './block.js';
import type { Norm } from './layers.js';
import type { SequenceMixer, Stream } from './mixer.js';

/** Blocks and a final norm on whole sequences: what an encoder has between its embedding and its head. */
export class Backbone {
  readonly blocks: readonly Block<SequenceMixer>[];
  readonly finalNorm: Norm;
  readonly #residualGain: number;

  /** @param options.residualGain factor on the residual stream after each block; default 1 */
  constructor(blocks: readonly Block<SequenceMixer>[], finalNorm: Norm, { residualGain = 1 }: { readonly residualGain?: number } = {}) {
    this.blocks = blocks;
    this.finalNorm = finalNorm;
    this.#residualGain = residualGain;
  }

  /**
   * @param x [B,L,D]
   * @param onBlock told of the stream after each block; its tensors live as long as the call, unless retained
   * @returns [B,L,D], normed
   */
  forward(x: Tensor, onBlock?: (stream: Stream, block: number) => void): Tensor<FloatDType> {
    return scope(() => {
      let stream: { x: Tensor; residual: Tensor | null } = { x, residual: null };
      for (const [i, block] of this.blocks.entries()) {
        stream = inModule(`layers.${i}`, () => {
          const { x: y, residual } = block.forward(stream.x, stream.residual, []);
          return { x: y, residual: this.#residualGain === 1 ? residual : affine(residual, this.#residualGain) };
        });
        onBlock?.(stream as Stream, i);
      }
      return inModule('norm_f', () => this.finalNorm.forward(stream.x, stream.residual).y);
    });
  }
}
