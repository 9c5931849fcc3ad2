import { valueAndGradients } from '../autograd/index.js';
import { BatchSampler, validationBatches, type BatchSource, type TokenArray, type TokenDataset } from '../data/index.js';
import type { MambaLM } from '../models/index.js';
import { tensor, withoutScope, type Tensor } from '../tensor/index.js';
import { ArgumentError, describeProblem } from '../util/errors.js';
import { evaluate, type Evaluation } from './evaluate.js';
import { FlatAdamW, type AdamWOptions } from './optimiser.js';
import { learningRateAt, type LearningRateSchedule } from './schedule.js';

/** Everything a run depends on besides the model's config and the text. */
export interface TrainingOptions extends AdamWOptions {
  /** B: sequences a micro-batch. */
  readonly batchSize: number;
  /** L: tokens a sequence. */
  readonly length: number;
  /** Micro-batches whose gradients are averaged into one step. */
  readonly accumulation: number;
  readonly schedule: LearningRateSchedule;
  /** Seed of the order of the data. */
  readonly seed: number;
}

/** The published recipe for small models (Mamba paper, appendix E.2), for a given number of steps. */
export function defaultTrainingOptions(steps: number): TrainingOptions {
  return {
    batchSize: 8,
    length: 256,
    accumulation: 1,
    schedule: { peak: 3e-3, warmupSteps: Math.min(100, Math.ceil(steps / 10)), totalSteps: steps, finalFraction: 0.05 },
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0.1,
    maxGradientNorm: 1,
    seed: 1,
  };
}

/** What one step measured. */
export interface StepResult {
  /** Steps done, this one included. */
  readonly step: number;
  /** Mean training loss of the step's batches, nats a token, before the update. */
  readonly loss: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
}

/** What a trainer trains on, where it is not simply a text. */
export interface TrainingData {
  readonly source: BatchSource;
  /** Changes when the data do: a training checkpoint goes on only with the data it was made with. */
  readonly fingerprint: string;
  /** Measures a model on data that `source` does not give; on the first `limitBatches` batches of them. */
  evaluate(model: MambaLM, limitBatches: number): Promise<Evaluation>;
}

/** Trains a Mamba language model on a text or on batches of any source. One step at a time; saving and showing is the caller's. */
export class Trainer {
  readonly model: MambaLM;
  readonly options: TrainingOptions;
  readonly data: TrainingData;
  readonly optimiser: FlatAdamW;

  /**
   * @param model its parameters move to the optimiser's storage
   * @param data a text, cut into windows by `BatchSampler`; or another source, whose batches are [batchSize, length]
   * @throws ArgumentError when an option is out of range or the text too short
   */
  constructor(model: MambaLM, data: TokenDataset | TrainingData, options: TrainingOptions) {
    if (!Number.isInteger(options.accumulation) || options.accumulation < 1) {
      throw new ArgumentError(
        describeProblem({ operation: 'Trainer', argument: 'accumulation', expected: 'an integer ≥ 1', got: String(options.accumulation) }),
      );
    }
    learningRateAt(options.schedule, 0);
    this.model = model;
    this.options = options;
    this.data = 'training' in data ? textData(data, options) : data;
    this.optimiser = new FlatAdamW(model.backend, model.parameters, options);
  }

  /** Steps done. */
  get step(): number {
    return this.optimiser.step;
  }

  /** One optimiser step on the next batches. */
  async trainStep(): Promise<StepResult> {
    const { batchSize, length, accumulation, schedule } = this.options;
    const { backend } = this.model;
    const learningRate = learningRateAt(schedule, this.step);
    const by = this.model.parameters.map((parameter) => parameter.tensor);
    this.optimiser.clearGradients();
    const losses: Tensor[] = [];
    for (let micro = 0; micro < accumulation; micro++) {
      const { inputs, targets } = this.data.source.next();
      const { value } = withoutScope(() =>
        valueAndGradients(
          by,
          () =>
            this.model.loss(
              tensor(backend, inputs, [batchSize, length], 'i32'),
              tensor(backend, targets, [batchSize, length], 'i32'),
            ),
          { into: this.optimiser.gradientSums, scale: 1 / accumulation },
        ),
      );
      losses.push(value);
    }
    const norm = this.optimiser.update(learningRate);
    try {
      let loss = 0;
      for (const value of losses) loss += (await value.item()) / accumulation;
      const gradientNorm = await norm.item();
      return { step: this.step, loss, gradientNorm, learningRate, tokens: batchSize * length * accumulation };
    } finally {
      for (const value of losses) value.dispose();
      norm.dispose();
    }
  }

  /** Mean loss over the held-out data, or over the first `limitBatches` batches of them. */
  async evaluate(limitBatches = Infinity): Promise<Evaluation> {
    return this.data.evaluate(this.model, limitBatches);
  }

  /** Frees the optimiser's memory; the model stays. */
  dispose(): void {
    this.optimiser.dispose();
  }
}

function textData({ training, validation }: TokenDataset, options: TrainingOptions): TrainingData {
  return {
    source: new BatchSampler(training, options),
    fingerprint: fingerprint(training),
    evaluate: (model, limitBatches) => evaluate(model, limit(validationBatches(validation, options), limitBatches), options),
  };
}

function* limit<T>(items: Iterable<T>, count: number): Generator<T> {
  let taken = 0;
  for (const item of items) {
    if (taken++ >= count) return;
    yield item;
  }
}

/** A number that changes when the tokens do: FNV-1a over the token values. */
function fingerprint(tokens: TokenArray): string {
  let value = 0x811c9dc5;
  for (const token of tokens) value = Math.imul(value ^ token, 0x01000193);
  return `${String(tokens.length)}:${(value >>> 0).toString(16)}`;
}
