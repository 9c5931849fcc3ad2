import type { Batch } from '../data/index.js';
import { stageModel } from '../models/checkpoint.js';
import type { LanguageModel, State } from '../models/index.js';
import type { Parameter } from '../nn/index.js';
import type { StagedFile } from '../platform/platform.js';
import { scope, tensor, type Backend, type Tensor } from '../tensor/index.js';
import { countTargets } from './evaluate.js';

/** What training changes: parameters on a backend. Every `LanguageModel` is one. */
export interface Trainable {
  readonly backend: Backend;
  readonly parameters: readonly Parameter[];
}

/** What a trainer minimises: a loss of a model on batches of some kind. */
export interface Objective<M extends Trainable = Trainable, B = Batch> {
  readonly model: M;
  /**
   * The mean loss of a batch's targets, recorded for gradients.
   * @param state what the model remembers of the batch before, to be updated in place; null where every batch begins anew
   * @returns a scalar
   */
  loss(batch: B, state: State | null): Tensor;
  /** How many targets a batch's loss is the mean of: batches are weighed by it. */
  countTargets(batch: B): number;
  /** The state before the first batch, for data that are continuous; without it every batch begins anew. */
  newState?(): State;
  /** Throws when the model was disposed. */
  expectLive?(operation: string): void;
  /** Writes the model's files for the folder of a run, beside their places. Without it, the run's checkpoint alone has the weights. */
  stage?(folder: string): Promise<StagedFile>;
}

/**
 * Next-token prediction: the mean cross-entropy of a language model on batches [batchSize, length].
 * @param options.recompute whether the gradients run each block again, in place of keeping its activations; default false
 */
export function nextToken<M extends LanguageModel>(
  model: M,
  options: { readonly batchSize: number; readonly length: number; readonly recompute?: boolean },
): Objective<M> {
  const { batchSize, length, recompute = false } = options;
  return {
    model,
    loss: ({ inputs, targets, starts }, state) =>
      scope(() => {
        const put = (ids: Int32Array) => tensor(model.backend, ids, [batchSize, length], 'i32');
        return model.loss(put(inputs), put(targets), {
          recompute,
          ...(starts === undefined ? {} : { sequenceStarts: put(starts) }),
          ...(state === null ? {} : { state }),
        });
      }),
    countTargets: ({ targets }) => countTargets(targets),
    // Keys and values of all that came before would not fit: a row is all that attention sees.
    ...(model.remembersPositions ? {} : { newState: () => model.newState(batchSize) }),
    expectLive: (operation) => {
      model.expectLive(operation);
    },
    stage: (folder) => stageModel(model, folder),
  };
}
