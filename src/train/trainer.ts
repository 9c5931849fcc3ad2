import { valueAndGradients } from '../autograd/index.js';
import { BatchSampler, packedPass, PackedSampler, validationBatches } from '../data/index.js';
import type { Batch, DocumentDataset, DocumentSource, TokenArray, TokenDataset } from '../data/index.js';
import type { MambaLM, State } from '../models/index.js';
import { tensor, withoutScope, type Tensor } from '../tensor/index.js';
import { ArgumentError, describeProblem } from '../util/errors.js';
import { countTargets, evaluate, type Evaluation } from './evaluate.js';
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
  /** Mean training loss of the step's targets, nats a token, before the update. */
  readonly loss: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
}

/** What a trainer trains on: tokens in memory, or documents. */
export type TrainingData = TokenDataset | DocumentDataset;

/**
 * Trains a Mamba language model on a token array, in windows, or on documents, packed into rows. One step at a time; saving
 * and showing is the caller's.
 *
 * On documents, the state after a batch is where the next begins (truncated back-propagation through time): a document longer
 * than a row is seen whole, its gradients reach back to the row's beginning. The state was worked out with the weights as
 * they were then.
 */
export class Trainer<Data extends TrainingData = TokenDataset> {
  readonly model: MambaLM;
  readonly options: TrainingOptions;
  readonly dataset: Data;
  readonly optimiser: FlatAdamW;
  readonly sampler: Data extends TokenDataset ? BatchSampler : PackedSampler;
  /** What the model remembers of the documents its rows are in; null where it trains on windows. */
  readonly carried: State | null;

  /**
   * @param model its parameters move to the optimiser's storage
   * @throws ArgumentError when an option is out of range or the text too short
   */
  constructor(model: MambaLM, dataset: Data, options: TrainingOptions) {
    if (!Number.isInteger(options.accumulation) || options.accumulation < 1) {
      throw new ArgumentError(
        describeProblem({ operation: 'Trainer', argument: 'accumulation', expected: 'an integer ≥ 1', got: String(options.accumulation) }),
      );
    }
    learningRateAt(options.schedule, 0);
    this.model = model;
    this.options = options;
    this.dataset = dataset;
    const { training } = dataset;
    const sampler = isTokens(training) ? new BatchSampler(training, options) : new PackedSampler(training, options);
    this.sampler = sampler as typeof this.sampler;
    this.carried = sampler instanceof PackedSampler ? model.newState(options.batchSize) : null;
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
    const batches: Batch[] = [];
    for (let micro = 0; micro < accumulation; micro++) batches.push(await this.sampler.next());
    // Every target weighs the same, in whichever micro-batch it is: packed batches have unequal numbers of them.
    const counts = batches.map(({ targets }) => countTargets(targets));
    const total = Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    const divisors = counts.map((count) => total / count);
    this.optimiser.clearGradients();
    const losses: Tensor[] = [];
    const put = (ids: Int32Array) => tensor(backend, ids, [batchSize, length], 'i32');
    for (const [micro, { inputs, targets, starts }] of batches.entries()) {
      const { value } = withoutScope(() =>
        valueAndGradients(
          by,
          () =>
            this.model.loss(put(inputs), put(targets), {
              ...(starts === undefined ? {} : { sequenceStarts: put(starts) }),
              ...(this.carried === null ? {} : { state: this.carried }),
            }),
          { into: this.optimiser.gradientSums, scale: 1 / (divisors[micro] as number) },
        ),
      );
      losses.push(value);
    }
    const norm = this.optimiser.update(learningRate);
    try {
      let loss = 0;
      for (const [micro, value] of losses.entries()) loss += (await value.item()) / (divisors[micro] as number);
      const gradientNorm = await norm.item();
      return { step: this.step, loss, gradientNorm, learningRate, tokens: batchSize * length * accumulation };
    } finally {
      for (const value of losses) value.dispose();
      norm.dispose();
    }
  }

  /** Mean loss over the held-out tokens, or over the first `limitBatches` batches of them. */
  async evaluate(limitBatches = Infinity): Promise<Evaluation> {
    const { validation } = this.dataset;
    const batches = isTokens(validation) ? validationBatches(validation, this.options) : packedPass(validation, this.options);
    return evaluate(this.model, limit(batches, limitBatches), this.options);
  }

  /** Frees the optimiser's memory and the carried state; the model stays. */
  dispose(): void {
    this.carried?.dispose();
    this.optimiser.dispose();
  }
}

async function* limit<T>(items: Iterable<T> | AsyncIterable<T>, count: number): AsyncGenerator<T> {
  let taken = 0;
  for await (const item of items) {
    if (taken++ >= count) return;
    yield item;
  }
}

const isTokens = (part: TokenArray | DocumentSource): part is TokenArray => ArrayBuffer.isView(part);

/** A text that changes when the tokens do: of an array, FNV-1a over its values. */
export function fingerprint(tokens: TokenArray | DocumentSource): string {
  if (!isTokens(tokens)) return tokens.fingerprint;
  let value = 0x811c9dc5;
  for (const token of tokens) value = Math.imul(value ^ token, 0x01000193);
  return `${String(tokens.length)}:${(value >>> 0).toString(16)}`;
}
