import type { Batch } from '../data/index.js';
import { stageModel } from '../models/checkpoint.js';
import type { LanguageModel, State } from '../models/index.js';
import type { Auxiliary, Parameter } from '../nn/index.js';
import type { StagedFile } from '../platform/platform.js';
import { scope, tensor, type Backend, type Shape, type Tensor } from '../tensor/index.js';
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
   * @param auxiliary given in training: collects the losses that the scalar holds besides the task's, and what else is to be reported
   * @returns a scalar
   */
  loss(batch: B, state: State | null, auxiliary?: Auxiliary): Tensor;
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
    loss: ({ inputs, targets, starts }, state, auxiliary) =>
      scope(() => {
        const put = (ids: Int32Array) => tensor(model.backend, ids, [batchSize, length], 'i32');
        return model.loss(put(inputs), put(targets), {
          ...{ recompute, auxiliary },
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

/** Examples and the class of each. */
export interface LabelledBatch {
  /** The examples' numbers, one example after the other. */
  readonly inputs: Float32Array;
  /** One an example, from 0 to classes − 1; −1 is not counted. */
  readonly labels: Int32Array;
}

/** A model that scores classes, as `VisionMamba`. */
export interface Classifier extends Trainable {
  /** The mean cross-entropy of labels [B] of inputs [B,…]. */
  loss(inputs: Tensor, labels: Tensor): Tensor;
  expectLive(operation: string): void;
}

/**
 * Classification: the mean cross-entropy of the labels.
 * @param shape of one example: that of an image is [C,H,W]
 */
export function classify<M extends Classifier>(model: M, shape: Shape): Objective<M, LabelledBatch> {
  return {
    model,
    loss: ({ inputs, labels }) =>
      scope(() => model.loss(tensor(model.backend, inputs, [labels.length, ...shape]), tensor(model.backend, labels, [labels.length], 'i32'))),
    countTargets: ({ labels }) => countTargets(labels),
    expectLive: (operation) => {
      model.expectLive(operation);
    },
  };
}
