import type { LanguageModel, State } from '../models/index.js';
import { sampleTokens } from '../ops/index.js';
import { scope, tensor, withoutScope, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError } from '../util/errors.js';
import { CapturedStep } from './captured-step.js';
import type { SamplingOptions } from './sampling.js';

/** Whether the device can draw: greedily, or by temperature alone. Filters and penalties need the host. */
export const drawsOnDevice = ({ repetitionPenalty = 1, topK, topP = 1, minP = 0 }: SamplingOptions): boolean =>
  repetitionPenalty === 1 && topK === undefined && topP === 1 && minP === 0;

/**
 * Decodes one sequence with the draws on the device: a step feeds the token that the step before it drew, so that many are
 * queued before their tokens are read.
 */
export class SamplingDecoder implements Disposable {
  readonly #tensors: { readonly ids: Tensor; readonly counter: Tensor; readonly history: Tensor };
  readonly #step: CapturedStep;
  #steps = 0;

  /**
   * @param state of one sequence; updated by every step, must outlive the decoder
   * @param first the token that the first step feeds
   * @param options.capacity the most steps that will be taken
   */
  constructor(model: LanguageModel, state: State, first: number, options: { temperature: number; seed: number; capacity: number }) {
    state.expectOf('SamplingDecoder', model, 1);
    const { backend } = model;
    const { temperature, seed, capacity } = options;
    const made = withoutScope(() =>
      scope(() => {
        const tensors = {
          ids: tensor(backend, [first], [1], 'i32'),
          counter: tensor(backend, [0], [1], 'i32'),
          history: tensor(backend, new Int32Array(capacity), [1, capacity], 'i32'),
        };
        const step = new CapturedStep(model, state, (prepared) => {
          scope(() => {
            sampleTokens(model.step(tensors.ids, state, prepared), tensors, { temperature, seed });
          });
        });
        return { tensors, step };
      }),
    );
    this.#tensors = made.tensors;
    this.#step = made.step;
  }

  /**
   * Takes some steps.
   * @returns the tokens drawn
   * @throws ArgumentError where the logits of a step leave nothing to draw
   * @throws DisposedError when the decoder, its state, model or backend are disposed, or the model's weights have moved
   */
  async next(count: number): Promise<readonly number[]> {
    const start = this.#steps;
    this.#step.replay('generate', count);
    this.#steps += count;
    const drawn = this.#tensors.history.aliased([count], start);
    try {
      const ids = Array.from(await drawn.data());
      if (!ids.includes(-1)) return ids;
    } finally {
      drawn.dispose();
    }
    throw new ArgumentError({
      operation: 'generate',
      argument: 'logits',
      expected: 'numbers, one of them finite',
      got: 'NaN or −∞ for every token',
      hint: 'do the weights hold NaN?',
    });
  }

  dispose(): void {
    this.#step.dispose();
    for (const made of Object.values(this.#tensors)) made.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }
}
