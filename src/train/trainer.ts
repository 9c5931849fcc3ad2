import { NormProbe, valueAndGradients, type Sighting } from '../autograd/index.js';
import { BatchSampler, packedPass, PackedSampler, validationBatches } from '../data/index.js';
import type { Batch, BatchSource, DocumentDataset, DocumentSource, TokenArray, TokenDataset } from '../data/index.js';
import { LanguageModel, type State } from '../models/index.js';
import { Auxiliary, type AuxiliaryValues } from '../nn/index.js';
import { scope, withoutScope, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, DisposedError } from '../util/errors.js';
import { Turns } from '../util/turns.js';
import { clearRowsNotFinite } from './carried-state.js';
import { DivergenceError, type Divergence, type DivergenceOrigin } from './divergence.js';
import { firstNotFinite, grewMost, isWeight } from './divergence-origin.js';
import { evaluate, evaluateObjective, type Evaluation } from './evaluate.js';
import { LossScale, type LossScaleState } from './loss-scale.js';
import { LossWatch, type LossSpike } from './loss-watch.js';
import { nextToken, type Objective, type Trainable } from './objective.js';
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
  /**
   * What becomes of a step whose loss or gradient norm is not finite, or whose loss is a spike (`LossWatch`). It never changes
   * weights or moments. 'stop' throws; 'skip' goes on with the next batch, at most ten times in a row.
   */
  readonly onDivergence: 'stop' | 'skip';
  /**
   * Whether the gradients run each block of the language model again, in place of keeping its activations: less memory for up to a
   * third more time, and the same numbers. Default false. An objective says it itself (`nextToken`).
   */
  readonly recompute?: boolean;
}

const mostSkippedInARow = 10;

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
    onDivergence: 'stop',
  };
}

/** What one step measured. */
export interface StepResult {
  /** Steps done, this one included. */
  readonly step: number;
  /** Mean training loss of the step's targets, nats a token, before the update; without the auxiliary losses. */
  readonly loss: number;
  /** What was added to it, by name, where the model has such losses: each weighted as it was added, summed over the layers. */
  readonly auxiliaryLosses?: AuxiliaryValues['losses'];
  /** What else the model measured, by name: a number for each layer that has it, such as the share of tokens that experts dropped. */
  readonly measures?: AuxiliaryValues['measures'];
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
  /** What the loss was multiplied by, in mixed precision. */
  readonly lossScale?: number;
  /** Why the step was left out, where it was. */
  readonly skipped?: Divergence;
}

/** What a trainer trains on, where it is not simply a text or documents. */
export interface TrainingData<M extends Trainable = LanguageModel, B = Batch> {
  readonly source: BatchSource<B>;
  /** Changes when the data do: a training checkpoint goes on only with the data it was made with. */
  readonly fingerprint: string;
  /** Whether the rows of a batch go on where those of the batch before ended, so that the state is carried over. */
  readonly continuous: boolean;
  /** Measures a model on data that `source` does not give, on the first `limitBatches` batches of them; none where nothing is held out. */
  readonly evaluate?: (model: M, limitBatches: number) => Promise<Evaluation>;
  /** Finds out whether there is anything to predict, to train on and held out. @throws ArgumentError where there is not */
  readonly check?: () => Promise<void>;
}

/**
 * Trains a language model on a text, in windows, on documents, packed into rows, or on batches of any source; or any other model by an
 * `Objective` of one's own. Saving and showing is the caller's. Steps, evaluations and saving are done one after the other, in the order in which they were asked for: a
 * call need not wait for the one before, and gives what it would have given then. A model has one trainer at a time.
 *
 * On documents, the state after a batch is where the next begins (truncated back-propagation through time): a document longer
 * than a row is seen whole, its gradients reach back to the row's beginning. The state was worked out with the weights as
 * they were then.
 */
export class Trainer<M extends Trainable = LanguageModel, B = Batch> implements Disposable {
  readonly objective: Objective<M, B>;
  readonly options: TrainingOptions;
  readonly data: TrainingData<M, B>;
  readonly optimiser: FlatAdamW;
  /** What the model remembers of the documents its rows are in; null where every row begins anew. */
  readonly carried: State | null;
  /** What `carried` was before the step under way. */
  readonly #carriedBefore: State | null;
  readonly #watch = new LossWatch();
  /** In mixed precision; null where gradients are float32. */
  #lossScale: LossScale | null;
  #skipped = 0;
  #skippedInARow = 0;
  readonly #turns = new Turns();
  #disposed = false;

  /**
   * @param trained a language model, to predict the next token, or an objective; the parameters move to the optimiser's storage
   * @param data a text, documents, or another source of batches [batchSize, length]; the held-out part may be empty, not of one token
   * @throws ArgumentError when an option is out of range or the text too short; when another trainer has the model
   */
  constructor(trained: (M & LanguageModel) | Objective<M, B>, data: TokenDataset | DocumentDataset | TrainingData<M, B>, options: TrainingOptions) {
    if (!Number.isInteger(options.accumulation) || options.accumulation < 1) {
      throw new ArgumentError({ operation: 'Trainer', argument: 'accumulation', expected: 'an integer ≥ 1', got: String(options.accumulation) });
    }
    learningRateAt(options.schedule, 0);
    // A language model's batches are those of tokens.
    const objective = trained instanceof LanguageModel ? (nextToken(trained, options) as unknown as Objective<M, B>) : trained;
    if (options.recompute === true && objective === trained) {
      const [expected, hint] = ['left out for an objective', 'the objective decides: nextToken takes it'];
      throw new ArgumentError({ operation: 'Trainer', argument: 'recompute', expected, got: 'true', hint });
    }
    const { model } = objective;
    this.objective = objective;
    this.options = options;
    this.data = 'source' in data ? data : (tokenData(data, objective as unknown as Objective, options) as unknown as TrainingData<M, B>);
    objective.expectLive?.('Trainer');
    // First: it refuses a model that is being trained, and no other memory has been taken by then.
    this.optimiser = new FlatAdamW(model.backend, model.parameters, options);
    try {
      this.carried = this.data.continuous ? (objective.newState?.() ?? null) : null;
      this.#carriedBefore = this.carried?.copy() ?? null;
    } catch (error) {
      this.optimiser.dispose();
      throw error;
    }
    this.#lossScale = model.backend.precision === 'f16' ? new LossScale() : null;
  }

  /** What is trained. */
  get model(): M {
    return this.objective.model;
  }

  /** Steps done, those left out included. */
  get step(): number {
    return this.optimiser.step + this.#skipped;
  }

  /**
   * One optimiser step on the next batches.
   * @param timeShare of a run that ends at a time: how much of it is over, from 0 to 1, for the learning rate
   * @throws DivergenceError, see `TrainingOptions.onDivergence`; weights and moments are then as before, the data are not
   * @throws DisposedError when trainer, model or backend are disposed, meanwhile too
   */
  trainStep(timeShare = 0): Promise<StepResult> {
    return this.inTurn('trainStep', () => this.#trainStep(timeShare));
  }

  async #trainStep(timeShare: number): Promise<StepResult> {
    const { batchSize, length, accumulation, schedule } = this.options;
    const learningRate = learningRateAt(schedule, this.step, timeShare);
    const weighed = await this.#nextBatches();
    this.#expectLive('trainStep');
    this.#rememberCarried();
    for (;;) {
      const result = await this.#tryStep(weighed, learningRate);
      if (result !== null) return { ...result, tokens: batchSize * length * accumulation };
      // A gradient overflowed half precision: once more, with half the scale.
      this.#lossScale?.update(false);
      if (this.#carriedBefore !== null) this.carried?.assign(this.#carriedBefore);
    }
  }

  /** One step, or null, and nothing has changed, where the loss scale is to blame for a norm that is not finite. */
  async #tryStep(weighed: readonly WeighedBatch<B>[], learningRate: number): Promise<Omit<StepResult, 'tokens'> | null> {
    const lossScale = this.#lossScale?.value ?? 1;
    const passes = this.#differentiate(weighed, this.carried);
    const norm = this.optimiser.gradientNorm(1 / lossScale);
    try {
      const { loss, ...auxiliary } = await meanOf(passes, weighed);
      const gradientNorm = await norm.item();
      this.#expectLive('trainStep');
      if (Number.isFinite(loss) && !Number.isFinite(gradientNorm) && lossScale > 1) return null;
      const scaled = this.#lossScale === null ? {} : { lossScale };
      const measured = { step: this.step + 1, loss, ...auxiliary, gradientNorm, learningRate, ...scaled };
      const finite = Number.isFinite(loss) && Number.isFinite(gradientNorm);
      const spike = finite ? this.#watch.spike(loss, targetsOf(weighed)) : null;
      if (!finite || spike !== null) {
        return { ...measured, skipped: await this.#leaveOut({ step: measured.step, loss, gradientNorm }, weighed, spike) };
      }
      this.optimiser.update(learningRate, norm, 1 / lossScale);
      this.#lossScale?.update(true);
      this.#watch.add(loss);
      this.#skippedInARow = 0;
      return measured;
    } finally {
      disposeAll(passes);
      norm.dispose();
    }
  }

  /**
   * Whether the weights are fit to replace a checkpoint: they and the moments are finite, and the loss of one of the next three
   * steps' batches is neither infinite nor a spike. An update that spoils the weights is seen in no loss before that of the
   * next step. Takes a forward pass, as a rule, and changes nothing.
   */
  sound(): Promise<boolean> {
    return this.inTurn('sound', () => this.#sound());
  }

  async #sound(): Promise<boolean> {
    if (!(await this.optimiser.finite())) return false;
    const position = this.data.source.state();
    try {
      for (let ahead = 0; ahead < 3; ahead++) {
        const batches = await this.#nextBatches().catch(() => null);
        // Damaged data say nothing of the weights: the next step will tell of them.
        if (batches === null) return true;
        this.#expectLive('sound');
        this.#rememberCarried();
        const losses = withoutScope(() => scope(() => batches.map(({ batch }) => this.objective.loss(batch, this.#carriedBefore))));
        let loss: number;
        try {
          loss = await meanLoss(losses, batches);
        } finally {
          for (const value of losses) value.dispose();
        }
        if (Number.isFinite(loss) && this.#watch.spike(loss, targetsOf(batches)) === null) return true;
      }
      return false;
    } finally {
      this.data.source.restore(position);
    }
  }

  /** What the next steps depend on besides weights, moments, carried state and data, fit for JSON. */
  progress(): TrainingProgress {
    const lossScale = this.#lossScale?.state ?? null;
    return { skipped: this.#skipped, skippedInARow: this.#skippedInARow, recentLosses: this.#watch.recent, lossScale };
  }

  /** Goes on where the trainer was that had done `step` steps and gave `progress`. */
  restoreProgress(step: number, { skipped, skippedInARow, recentLosses, lossScale }: TrainingProgress): void {
    // A run may go on in another precision: then the scale begins anew, or is not needed.
    if (this.#lossScale !== null && lossScale !== null) this.#lossScale = new LossScale(lossScale);
    this.#watch.recent = recentLosses;
    this.#skipped = skipped;
    this.#skippedInARow = skippedInARow;
    this.optimiser.step = step - skipped;
  }

  /**
   * Mean loss over the held-out data, or over the first `limitBatches` batches of them.
   * @throws ArgumentError where nothing is held out
   */
  evaluate(limitBatches = Infinity): Promise<Evaluation> {
    return this.inTurn('evaluate', async () => {
      if (this.data.evaluate !== undefined) return this.data.evaluate(this.model, limitBatches);
      const problem = { operation: 'Trainer.evaluate', argument: 'the held-out data', expected: 'something to predict', got: 'empty' };
      throw new ArgumentError(problem);
    });
  }

  /**
   * Does `work`, which reads or writes what a step changes, when steps and evaluations that were asked for before have ended, and
   * lets later ones wait. It must not wait for a step of this trainer itself.
   * @throws DisposedError when the trainer or its model are disposed by then
   */
  inTurn<T>(operation: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.take(() => {
      this.#expectLive(operation);
      return work();
    });
  }

  /** Frees the optimiser's memory and the carried state; the model stays. What waits for its turn throws DisposedError. */
  dispose(): void {
    this.#disposed = true;
    this.carried?.dispose();
    this.#carriedBefore?.dispose();
    this.optimiser.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  #expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`${operation}: the trainer was disposed`);
    this.objective.expectLive?.(operation);
  }

  async #nextBatches(): Promise<WeighedBatch<B>[]> {
    const batches: B[] = [];
    for (let micro = 0; micro < this.options.accumulation; micro++) batches.push(await this.data.source.next());
    const counts = batches.map((batch) => this.objective.countTargets(batch));
    const total = Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    // Every target weighs the same, in whichever micro-batch it is: packed batches have unequal numbers of them.
    return batches.map((batch, i) => ({ batch, targets: counts[i] as number, weight: (counts[i] as number) / total }));
  }

  #rememberCarried(): void {
    if (this.carried !== null) this.#carriedBefore?.assign(this.carried);
  }

  /** Sums the gradients of the batches up. @param watch what each forward pass runs in @returns the batches' losses, for the caller to dispose */
  #differentiate(batches: readonly WeighedBatch<B>[], state: State | null, watch = (body: () => Tensor): Tensor => body()): TrainingPass[] {
    const by = this.model.parameters.map((parameter) => parameter.tensor);
    const into = this.optimiser.gradientSums;
    this.optimiser.clearGradients();
    const lossScale = this.#lossScale?.value ?? 1;
    const passes: TrainingPass[] = [];
    try {
      for (const { batch, weight } of batches) {
        const auxiliary = new Auxiliary();
        const pass: TrainingPass = { loss: null, auxiliary };
        passes.push(pass);
        const body = () => valueAndGradients(by, () => watch(() => this.objective.loss(batch, state, auxiliary)), { into, scale: weight * lossScale }).value;
        pass.loss = withoutScope(() => scope(body));
      }
    } catch (error) {
      disposeAll(passes);
      throw error;
    }
    return passes;
  }

  /** Counts the step as left out, or throws. */
  async #leaveOut(measured: Omit<Divergence, 'origin'>, batches: readonly WeighedBatch<B>[], spike: LossSpike | null): Promise<Divergence> {
    const origin = await this.#origin(batches, measured.gradientNorm, spike);
    const divergence = { ...measured, ...(spike === null ? {} : { spike }), origin };
    if (this.options.onDivergence === 'stop') throw new DivergenceError(divergence);
    if (isWeight(origin)) throw new DivergenceError(divergence, ['With such a weight no step can be right']);
    if (this.#skippedInARow === mostSkippedInARow) {
      throw new DivergenceError(divergence, [`The ${mostSkippedInARow} steps before it were left out already`]);
    }
    this.#skipped++;
    this.#skippedInARow++;
    if (this.carried !== null) await clearRowsNotFinite(this.carried);
    return divergence;
  }

  /** Runs the batches again, from the same weights and state, and looks at every tensor on the way. */
  async #origin(batches: readonly WeighedBatch<B>[], gradientNorm: number, spike: LossSpike | null): Promise<DivergenceOrigin | null> {
    const { parameters } = this.model;
    const probe = new NormProbe(parameters.map(({ key, tensor: values }) => [values, key]));
    let sightings: Sighting[];
    try {
      disposeAll(this.#differentiate(batches, this.#carriedBefore, (forward) => probe.watch(forward)));
      sightings = await probe.sightings();
    } finally {
      probe.dispose();
    }
    if (spike === null) return firstNotFinite(sightings, parameters.map(({ key }) => key));
    const clipping = Math.min(1, this.options.maxGradientNorm / (gradientNorm + 1e-6));
    return grewMost(sightings, await this.optimiser.recentGradientNorms(), clipping);
  }
}

/** The loss of a batch, auxiliary losses included, and what these are. */
interface TrainingPass {
  loss: Tensor | null;
  readonly auxiliary: Auxiliary;
}

function disposeAll(passes: readonly TrainingPass[]): void {
  for (const { loss, auxiliary } of passes) {
    loss?.dispose();
    auxiliary.dispose();
  }
}

/** The means of a step's batches: the task's loss, what was added to it, and what was measured besides. */
async function meanOf(
  passes: readonly TrainingPass[],
  batches: readonly WeighedBatch<unknown>[],
): Promise<Pick<StepResult, 'loss' | 'auxiliaryLosses' | 'measures'>> {
  let loss = await meanLoss(passes.map((pass) => pass.loss as Tensor), batches);
  const auxiliaryLosses: Record<string, number> = {};
  const measures: Record<string, number[]> = {};
  for (const [i, { auxiliary }] of passes.entries()) {
    const weight = batches[i]?.weight ?? NaN;
    const found = await auxiliary.values();
    for (const [name, value] of Object.entries(found.losses)) {
      auxiliaryLosses[name] = (auxiliaryLosses[name] ?? 0) + weight * value;
      loss -= weight * value;
    }
    for (const [name, values] of Object.entries(found.measures)) measures[name] = values.map((value, j) => (measures[name]?.[j] ?? 0) + weight * value);
  }
  const present = (values: object) => Object.keys(values).length > 0;
  return { loss, ...(present(auxiliaryLosses) ? { auxiliaryLosses } : {}), ...(present(measures) ? { measures } : {}) };
}

/** What a training checkpoint holds of a trainer besides tensors, step and position in the data. */
export interface TrainingProgress {
  /** Steps left out so far. */
  readonly skipped: number;
  readonly skippedInARow: number;
  /** Of the steps that were taken, see `LossWatch`. */
  readonly recentLosses: readonly number[];
  /** Null where the run has none. */
  readonly lossScale: LossScaleState | null;
}

interface WeighedBatch<B> {
  readonly batch: B;
  /** Targets that count. */
  readonly targets: number;
  /** Their share of all those of the step. */
  readonly weight: number;
}

const targetsOf = (batches: readonly WeighedBatch<unknown>[]): number => batches.reduce((sum, { targets }) => sum + targets, 0);

/** The mean loss of a step's targets. */
async function meanLoss(losses: readonly Tensor[], batches: readonly WeighedBatch<unknown>[]): Promise<number> {
  let sum = 0;
  for (const [i, { weight }] of batches.entries()) sum += ((await losses[i]?.item()) ?? NaN) * weight;
  return sum;
}

async function* limit<T>(items: Iterable<T> | AsyncIterable<T>, count: number): AsyncGenerator<T> {
  let taken = 0;
  for await (const item of items) {
    if (taken++ >= count) return;
    yield item;
  }
}

/** A text or documents as batches, and what is held out of them. */
function tokenData(data: TokenDataset | DocumentDataset, objective: Objective, options: TrainingOptions): TrainingData<Trainable> {
  const measure = (batches: Iterable<Batch> | AsyncIterable<Batch>, model: Trainable, limitBatches: number) =>
    model instanceof LanguageModel ? evaluate(model as LanguageModel, limit(batches, limitBatches), options) : evaluateObjective(objective, limit(batches, limitBatches));
  if (isText(data)) {
    const { training, validation } = data;
    const source = new BatchSampler(training, options);
    if (validation.length === 1) throw nothingToPredict('the held-out text', '1 token');
    return {
      source,
      fingerprint: fingerprint(training),
      continuous: false,
      ...(validation.length === 0
        ? {}
        : { evaluate: (model, limitBatches) => measure(validationBatches(validation, options), model, limitBatches) }),
    };
  }
  const { training, validation } = data;
  return {
    source: new PackedSampler(training, options),
    fingerprint: training.fingerprint,
    continuous: true,
    async check() {
      await checkDocuments('the training text', training);
      if (validation.count > 0) await checkDocuments('the held-out text', validation);
    },
    ...(validation.count === 0
      ? {}
      : { evaluate: (model, limitBatches) => measure(packedPass(validation, options), model, limitBatches) }),
  };
}

/** The first token of a document has nothing before it: those of one token, or none, have nothing to predict. */
async function checkDocuments(which: string, documents: DocumentSource): Promise<void> {
  let tokens = 0;
  for (let i = 0; i < documents.count; i++) {
    const { length } = await documents.open(i);
    if (length > 1) return;
    tokens += length;
  }
  const count = (n: number, unit: string) => `${n} ${unit}${n === 1 ? '' : 's'}`;
  throw nothingToPredict(which, `${count(documents.count, 'document')} of ${count(tokens, 'token')} in all`, 'a document of at least 2 tokens');
}

function nothingToPredict(argument: string, got: string, expected = 'at least 2 tokens'): ArgumentError {
  const hint = 'a longer text, or another part of it held out (--validation-share, --validation).';
  return new ArgumentError({ operation: 'Trainer', argument, expected, got, hint });
}

const isText = (data: TokenDataset | DocumentDataset): data is TokenDataset => ArrayBuffer.isView(data.training);

/** A text that changes when the tokens do: FNV-1a over their values. */
function fingerprint(tokens: TokenArray): string {
  let value = 0x811c9dc5;
  for (const token of tokens) value = Math.imul(value ^ token, 0x01000193);
  return `${tokens.length}:${(value >>> 0).toString(16)}`;
}
