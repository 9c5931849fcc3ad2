import { splitText, validationBatches, type Batch, type TokenDataset } from '../../src/data/index.js';
import { mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { defaultTrainingOptions, Trainer, type TrainingOptions } from '../../src/train/index.js';
import { randomIds } from './models.js';

export const tinyConfig = mambaConfig({ vocabularySize: 29, dModel: 20, layers: 2, dState: 5, dConv: 3, dtRank: 3 });

/** 29 different tokens in a random order that a model can learn nothing of but their frequencies. */
export const tinyText = Uint8Array.from(randomIds(400, 29, 17));

/** A small run: 400 tokens make about ten batches of 3 × 11 an epoch. */
export const tinyOptions: TrainingOptions = {
  ...defaultTrainingOptions(40),
  batchSize: 3,
  length: 11,
  accumulation: 2,
  schedule: { peak: 1e-2, warmupSteps: 5, totalSteps: 40, finalFraction: 0.1 },
};

/** A trainer and its model, to be freed together. */
export class TinyRun {
  readonly trainer: Trainer;
  readonly dataset: TokenDataset;

  constructor(backend: Backend, { options = {}, text = tinyText, config = tinyConfig, seed = 3, model }: {
    model?: LanguageModel;
    options?: Partial<TrainingOptions>;
    text?: Uint8Array;
    config?: LanguageModel['config'];
    seed?: number;
  } = {}) {
    this.dataset = splitText(text, 0.2);
    this.trainer = new Trainer(model ?? LanguageModel.initial(mambaFamily, config, backend, seed), this.dataset, { ...tinyOptions, ...options });
  }

  /** The first held-out batch. */
  batch(): Batch {
    for (const batch of validationBatches(this.dataset.validation, this.trainer.options)) return batch;
    throw new Error('there is no held-out batch');
  }

  /** Takes `count` steps and returns their losses and gradient norms. */
  async steps(count: number): Promise<{ loss: number; gradientNorm: number }[]> {
    const results = [];
    for (let i = 0; i < count; i++) {
      const { loss, gradientNorm } = await this.trainer.trainStep();
      results.push({ loss, gradientNorm });
    }
    return results;
  }

  /** Everything the next steps depend on, by name. */
  async snapshot(): Promise<Record<string, unknown>> {
    const { model, optimiser, data } = this.trainer;
    const snapshot: Record<string, unknown> = { step: this.trainer.step, sampler: data.source.state() };
    for (const { key, tensor } of model.parameters) snapshot[key] = await tensor.data();
    for (const { key, first, second } of optimiser.moments()) {
      snapshot[`first.${key}`] = await first.data();
      snapshot[`second.${key}`] = await second.data();
      first.dispose();
      second.dispose();
    }
    return snapshot;
  }

  dispose(): void {
    this.trainer.dispose();
    this.trainer.model.dispose();
  }
}
