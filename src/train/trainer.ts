import { valueAndGradients } from '../autograd/index.js';
import { BatchSampler, packedPass, PackedSampler, validationBatches } from '../data/index.js';
import type { Batch, BatchSource, DocumentDataset, TokenArray, TokenDataset } from '../data/index.js';
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

/** What a trainer trains on, where it is not simply a text or documents. */
export interface TrainingData {
  readonly source: BatchSource;
  /** Changes when the data do: a training checkpoint goes on only with the data it was made with. */
  readonly fingerprint: string;
  /** Whether the rows of a batch go on where those of the batch before ended, so that the state is carried over. */
  readonly continuous: boolean;
  /** Measures a model on data that `source` does not give; on the first `limitBatches` batches of them. */
  evaluate(model: MambaLM, limitBatches: number): Promise<Evaluation>;
}

/**
 * Trains a Mamba language model on a text, in windows, on documents, packed into rows, or on batches of any source. One step
 * at a time; saving and showing is the caller's.
 *
 * On documents, the state after a batch is where the next begins (truncated back-propagation through time): a document longer
 * than a row is seen whole, its gradients reach back to the row's beginning. The state was worked out with the weights as
 * they were then.
 */
export class Trainer {
  readonly model: MambaLM;
  readonly options: TrainingOptions;
  readonly data: TrainingData;
  readonly optimiser: FlatAdamW;
  /** What the model remembers of the documents its rows are in; null where every row begins anew. */
  readonly carried: State | null;

  /**
   * @param model its parameters move to the optimiser's storage
   * @param data a text, documents, or another source of batches [batchSize, length]
   * @throws ArgumentError when an option is out of range or the text too short
   */
  constructor(model: MambaLM, data: TokenDataset | DocumentDataset | TrainingData, options: TrainingOptions) {
    if (!Number.isInteger(options.accumulation) || options.accumulation < 1) {
      throw new ArgumentError(
        describeProblem({ operation: 'Trainer', argument: 'accumulation', expected: 'an integer ≥ 1', got: String(options.accumulation) }),
      );
    }
    learningRateAt(options.schedule, 0);
    this.model = model;
    this.options = options;
    this.data = trainingData(data, options);
    this.carried = this.data.continuous ? model.newState(options.batchSize) : null;
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
    for (let micro = 0; micro < accumulation; micro++) batches.push(await this.data.source.next());
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

  /** Mean loss over the held-out data, or over the first `limitBatches` batches of them. */
  async evaluate(limitBatches = Infinity): Promise<Evaluation> {
    return this.data.evaluate(this.model, limitBatches);
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

function trainingData(data: TokenDataset | DocumentDataset | TrainingData, options: TrainingOptions): TrainingData {
  if ('source' in data) return data;
  const measure = (batches: Iterable<Batch> | AsyncIterable<Batch>, model: MambaLM, limitBatches: number) =>
    evaluate(model, limit(batches, limitBatches), options);
  if (isText(data)) {
    return {
      source: new BatchSampler(data.training, options),
      fingerprint: fingerprint(data.training),
      continuous: false,
      evaluate: (model, limitBatches) => measure(validationBatches(data.validation, options), model, limitBatches),
    };
  }
  return {
    source: new PackedSampler(data.training, options),
    fingerprint: data.training.fingerprint,
    continuous: true,
    evaluate: (model, limitBatches) => measure(packedPass(data.validation, options), model, limitBatches),
  };
}

const isText = (data: TokenDataset | DocumentDataset): data is TokenDataset => ArrayBuffer.isView(data.training);

/** A text that changes when the tokens do: FNV-1a over their values. */
function fingerprint(tokens: TokenArray): string {
  let value = 0x811c9dc5;
  for (const token of tokens) value = Math.imul(value ^ token, 0x01000193);
  return `${String(tokens.length)}:${(value >>> 0).toString(16)}`;
}
