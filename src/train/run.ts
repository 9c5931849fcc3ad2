import { platform } from '#platform';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError, ElapidError, FileError } from '../util/errors.js';
import type { Evaluation } from './evaluate.js';
import { describeDivergence, DivergenceError, type Divergence } from './divergence.js';
import { appendMetrics, truncateMetrics, type DivergenceMetrics, type MetricsLine, type SampleMetrics } from './metrics.js';
import type { Trainable } from './objective.js';
import { restoreTraining, stageTraining, trainingCheckpointName } from './training-checkpoint.js';
import type { StepResult, Trainer } from './trainer.js';

export interface RunOptions {
  /** The run's folder: model.safetensors and config.json, training.safetensors, metrics.jsonl. */
  readonly folder: string;
  /** Steps between evaluations on the held-out tokens; default: a tenth of the run, by steps or by time. */
  readonly evaluateEvery?: number;
  /** Steps between checkpoints; the end, an interruption and the first evaluation or sample save as well. Default: as evaluations. */
  readonly saveEvery?: number;
  /**
   * Ends the run after the first step that is past this time, in seconds of training steps (`StepMetrics.seconds`), those before a
   * resumption included. The learning rate follows the time then, see `learningRateAt`: the run does not repeat to the bit.
   */
  readonly maxSeconds?: number;
  /** Goes on from the folder's training checkpoint. */
  readonly resume: boolean;
  /** Called when all has been read and checked, before the first step: the place to write more files of the run. */
  readonly onBegin?: () => Promise<void>;
  /** Called when the folder holds its first checkpoint whole; gives the folder that holds it then, in which the run goes on. */
  readonly settle?: () => Promise<string>;
  /** Ends the run after the step under way, with a checkpoint. */
  readonly signal?: AbortSignalLike;
  readonly onStep?: (result: StepResult, timing: RunTiming) => void;
  readonly onEvaluation?: (evaluation: Evaluation, step: number) => void;
  /** Called for a step that was left out, instead of `onStep`. */
  readonly onSkip?: (divergence: Divergence) => void;
  /** Texts by the model as it is then, every so many steps. */
  readonly samples?: { readonly every: number; readonly make: () => Promise<Pick<SampleMetrics, 'prompt' | 'sample'>> };
}

export interface RunTiming {
  /** Seconds spent on training steps, those before a resumption included. */
  readonly seconds: number;
  /** Of this step. */
  readonly tokensPerSecond: number;
  /** Seconds left, by the mean pace since this process began. */
  readonly secondsLeft: number;
}

export interface RunResult {
  /** The last evaluation; none where nothing is held out. */
  readonly evaluation: Evaluation | undefined;
  /** Spent on training steps, those before a resumption included. */
  readonly seconds: number;
  /** Whether the signal ended it. */
  readonly interrupted: boolean;
}

/**
 * Trains to the end of the schedule, or of its time, evaluating, logging and saving on the way. Where nothing is held out, it does not evaluate.
 * @throws ArgumentError before the first step when there is nothing to predict, or more steps are done than the schedule has
 * @throws DivergenceError where `Trainer.trainStep` does; the last good checkpoint stays as it is
 * @throws ElapidError when the run ends, or is interrupted, with weights that are not sound (`Trainer.sound`), which are not
 *   saved; when the held-out loss is not finite; when a file cannot be written (its `cause` is the FileError)
 * @throws CheckpointError when `resume` finds none, or one that does not fit
 */
export async function runTraining<M extends Trainable, B>(trainer: Trainer<M, B>, options: RunOptions): Promise<RunResult> {
  const { resume, signal, maxSeconds = Infinity, onBegin, settle, onStep, onEvaluation, onSkip, samples } = options;
  let { folder } = options;
  await trainer.data.check?.();
  await platform.makeFolder(folder);
  await removeTemporaries(folder);
  const secondsBefore = resume ? await restoreTraining(trainer, platform.joinPath(folder, trainingCheckpointName)) : 0;
  const { totalSteps } = trainer.options.schedule;
  if (!(maxSeconds > 0)) throw new ArgumentError({ operation: 'train', argument: 'maxSeconds', expected: 'a number above 0', got: String(maxSeconds) });
  if (totalSteps === Infinity && maxSeconds === Infinity) {
    throw new ArgumentError({ operation: 'train', argument: 'the number of steps', expected: 'a finite one, or a time (maxSeconds)', got: 'Infinity' });
  }
  if (trainer.step > totalSteps) {
    const [expected, got] = [`at least the ${trainer.step} that are done`, String(totalSteps)];
    throw new ArgumentError({ operation: 'train', argument: 'the number of steps', expected, got });
  }

  const firstStep = trainer.step;
  const started = performance.now();
  let seconds = secondsBefore;
  const timeShare = () => Math.min(1, seconds / maxSeconds);
  const done = () => trainer.step >= totalSteps || seconds >= maxSeconds;
  const timed = async <T>(step: () => Promise<T>): Promise<T> => {
    const begun = performance.now();
    try {
      return await step();
    } finally {
      seconds += (performance.now() - begun) / 1000;
    }
  };
  /** Whether what is done every so many steps, or each tenth of the run, is due after a step. @param before the share of time over before it */
  const due = (every: number | undefined, before: number): boolean =>
    trainer.step % (every ?? Math.ceil(totalSteps / 10)) === 0 || (every === undefined && Math.floor(10 * timeShare()) > Math.floor(10 * before));
  const { evaluateEvery, saveEvery = evaluateEvery } = options;
  let savedStep = resume ? trainer.step : null;
  const untouched = () => (savedStep === null ? 'There is no checkpoint yet' : `The checkpoint of step ${savedStep} is untouched`);
  /** Says of a file that cannot be written what it was for, and what is safe. */
  const writing = async <T>(what: string, body: () => Promise<T>): Promise<T> => {
    try {
      return await body();
    } catch (cause) {
      if (!(cause instanceof FileError)) throw cause;
      throw new ElapidError(`train: ${what} after step ${trainer.step} cannot be saved: ${cause.message}. ${untouched()}`, { cause });
    }
  };
  const append = (line: MetricsLine) => writing('the metrics', () => appendMetrics(folder, line));
  const save = () =>
    writing('the checkpoint', async () => {
      await replaceCheckpoint(trainer, folder, seconds);
      if (savedStep === null && settle !== undefined) folder = await settle();
      savedStep = trainer.step;
    });
  let last: { evaluation: Evaluation; step: number } | undefined;
  const evaluate = async () => {
    if (trainer.data.evaluate === undefined) return undefined;
    const evaluation = await trainer.evaluate();
    if (!Number.isFinite(evaluation.loss)) {
      const got = `the held-out loss after step ${trainer.step} is ${evaluation.loss}`;
      throw new ElapidError(`train: ${got}. ${untouched()}. Hint: a lower learning rate`);
    }
    last = { evaluation, step: trainer.step };
    const { loss: validationLoss, tokens: validationTokens, accuracy } = evaluation;
    const measured = { validationLoss, validationTokens, ...(accuracy === undefined ? {} : { validationAccuracy: accuracy }) };
    await append({ step: trainer.step, ...measured, seconds });
    onEvaluation?.(evaluation, trainer.step);
    return evaluation;
  };

  const sample = async () => {
    try {
      const made = await samples?.make();
      if (made !== undefined) await append({ step: trainer.step, ...made, seconds });
    } catch (error) {
      // A sample under way is not worth waiting for.
      if (signal?.aborted !== true) throw error;
    }
  };

  const before = await writing('the metrics', () => truncateMetrics(folder, resume ? trainer.step : -1));
  await writing('the settings', async () => onBegin?.());
  // The process that saved this checkpoint may have ended before it evaluated.
  const evaluated = before.some((line) => line.step === trainer.step && 'validationLoss' in line);
  if (resume && firstStep > 0 && due(evaluateEvery, timeShare()) && !done() && !evaluated) await evaluate();
  while (!done() && signal?.aborted !== true) {
    const [shareBefore, secondsUntilStep] = [timeShare(), seconds];
    const result = await timed(() => trainer.trainStep(shareBefore)).catch(async (error: unknown) => {
      if (!(error instanceof DivergenceError)) throw error;
      await append(divergenceLine(error.divergence, false, seconds));
      throw new DivergenceError(error.divergence, [...error.remarks, untouched()]);
    });
    const { skipped, ...measured } = result;
    const tokensPerSecond = result.tokens / (seconds - secondsUntilStep);
    if (skipped === undefined) {
      await append({ ...measured, tokensPerSecond: Math.round(tokensPerSecond), seconds });
      // By the clock on the wall, evaluations and all: a step takes so long, and a second of steps.
      const wall = (performance.now() - started) / 1000;
      const secondsLeft = wall * Math.min((totalSteps - trainer.step) / (trainer.step - firstStep), (maxSeconds - seconds) / (seconds - secondsBefore));
      onStep?.(result, { seconds, tokensPerSecond, secondsLeft: Math.max(0, secondsLeft) });
    } else {
      await append(divergenceLine(skipped, true, seconds));
      onSkip?.(skipped);
    }
    const [evaluationDue, sampleDue] = [
      trainer.data.evaluate !== undefined && due(evaluateEvery, shareBefore) && !done(),
      samples !== undefined && trainer.step % samples.every === 0,
    ];
    // Whatever comes of the first of them, the steps so far are not lost. Of weights that are not sound, the next step tells more.
    if (savedStep === null && (evaluationDue || sampleDue) && (await trainer.sound())) await save();
    if (evaluationDue) await evaluate();
    if (sampleDue) await sample();
    const saveDue = due(saveEvery, shareBefore) && !done() && savedStep !== trainer.step;
    if (saveDue && (await trainer.sound())) await save();
  }
  if (!(await trainer.sound())) {
    const expected = 'a loss of the next batches that is finite, and not far above the recent ones';
    throw new ElapidError(`train: after step ${trainer.step}, the weights do not give ${expected}. ${untouched()}. Hint: a lower learning rate`);
  }
  await save();
  const interrupted = !done();
  const evaluation = last?.step === trainer.step ? last.evaluation : await evaluate();
  return { evaluation, seconds, interrupted };
}

/** Replaces a folder's model and training checkpoint; all of it is whole before any takes its place. */
async function replaceCheckpoint<M extends Trainable, B>(trainer: Trainer<M, B>, folder: string, seconds: number): Promise<void> {
  const model = await trainer.objective.stage?.(folder);
  const training = await stageTraining(trainer, platform.joinPath(folder, trainingCheckpointName), seconds).catch(async (error: unknown) => {
    await model?.discard();
    throw error;
  });
  // The training checkpoint first: a run goes on from it, whatever model stands beside it.
  try {
    await training.place();
  } catch (error) {
    await model?.discard();
    throw error;
  }
  await model?.place();
}

const divergenceLine = (divergence: Divergence, skipped: boolean, seconds: number): DivergenceMetrics => ({
  step: divergence.step,
  divergence: describeDivergence(divergence),
  skipped,
  seconds,
});

/**
 * Removes what processes left that were killed while they wrote a file of this folder.
 * @param file the name of the one file that is about to be written, in a folder that others may write to: what those left that no
 *   longer run on this machine. Default: all files of a run, in a folder that is nobody else's now
 */
export async function removeTemporaries(folder: string, file?: string): Promise<void> {
  if ((await platform.pathKind(folder)) !== 'folder') return;
  for (const name of await platform.listFolder(folder)) {
    const [, of, pid] = /^(.*)\.tmp-(\d+)$/.exec(name) ?? [];
    if (of === undefined) continue;
    const left = file === undefined ? /\.(json|jsonl|safetensors|tokens)$/.test(of) : of === file && !platform.isRunning(Number(pid));
    if (left) await platform.removeFile(platform.joinPath(folder, name));
  }
}
