import { platform } from '#platform';
import { saveMamba } from '../models/index.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ElapidError } from '../util/errors.js';
import type { Evaluation } from './evaluate.js';
import { describeDivergence, DivergenceError, type Divergence } from './divergence.js';
import { appendMetrics, truncateMetrics, type DivergenceMetrics, type SampleMetrics } from './metrics.js';
import { restoreTraining, saveTraining, trainingCheckpointName } from './training-checkpoint.js';
import type { StepResult, Trainer } from './trainer.js';

export interface RunOptions {
  /** The run's folder: model.safetensors and config.json, training.safetensors, metrics.jsonl. */
  readonly folder: string;
  /** Steps between evaluations on the held-out tokens. */
  readonly evaluateEvery: number;
  /** Steps between checkpoints; the end and an interruption save as well. */
  readonly saveEvery: number;
  /** Goes on from the folder's training checkpoint. */
  readonly resume: boolean;
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
  /** Seconds spent training, those before a resumption included. */
  readonly seconds: number;
  /** Of this step. */
  readonly tokensPerSecond: number;
  /** Seconds left, by the mean pace since this process began. */
  readonly secondsLeft: number;
}

export interface RunResult {
  /** The last evaluation. */
  readonly evaluation: Evaluation;
  readonly seconds: number;
  /** Whether the signal ended it. */
  readonly interrupted: boolean;
}

/**
 * Trains to the end of the schedule, evaluating, logging and saving on the way.
 * @throws DivergenceError where `Trainer.trainStep` does; the last good checkpoint stays as it is
 * @throws ElapidError when the run ends, or is interrupted, with weights that are not sound (`Trainer.sound`), which are not
 *   saved; when the held-out loss is not finite
 * @throws CheckpointError when `resume` finds none, or one that does not fit
 */
export async function runTraining(trainer: Trainer, options: RunOptions): Promise<RunResult> {
  const { folder, evaluateEvery, saveEvery, resume, signal, onStep, onEvaluation, onSkip, samples } = options;
  const checkpointPath = platform.joinPath(folder, trainingCheckpointName);
  await platform.makeFolder(folder);
  await removeTemporaries(folder);
  const secondsBefore = resume ? await restoreTraining(trainer, checkpointPath) : 0;
  await truncateMetrics(folder, resume ? trainer.step : -1);

  const firstStep = trainer.step;
  const { totalSteps } = trainer.options.schedule;
  const started = performance.now();
  const seconds = () => secondsBefore + (performance.now() - started) / 1000;
  let savedStep = resume ? trainer.step : null;
  const untouched = () => (savedStep === null ? 'There is no checkpoint yet' : `The checkpoint of step ${String(savedStep)} is untouched`);
  const save = async () => {
    await saveMamba(trainer.model, folder);
    await saveTraining(trainer, checkpointPath, seconds());
    savedStep = trainer.step;
  };
  let last: { evaluation: Evaluation; step: number } | undefined;
  const evaluate = async () => {
    const evaluation = await trainer.evaluate();
    if (!Number.isFinite(evaluation.loss)) {
      throw new ElapidError(`train: the held-out loss after step ${String(trainer.step)} is ${String(evaluation.loss)}. Hint: a lower learning rate`);
    }
    last = { evaluation, step: trainer.step };
    const { loss: validationLoss, tokens: validationTokens, accuracy } = evaluation;
    const measured = { validationLoss, validationTokens, ...(accuracy === undefined ? {} : { validationAccuracy: accuracy }) };
    await appendMetrics(folder, { step: trainer.step, ...measured, seconds: seconds() });
    onEvaluation?.(evaluation, trainer.step);
    return evaluation;
  };

  const sample = async () => {
    try {
      const made = await samples?.make();
      if (made !== undefined) await appendMetrics(folder, { step: trainer.step, ...made, seconds: seconds() });
    } catch (error) {
      // A sample under way is not worth waiting for.
      if (signal?.aborted !== true) throw error;
    }
  };

  while (trainer.step < totalSteps && signal?.aborted !== true) {
    const stepStarted = performance.now();
    const result = await trainer.trainStep().catch(async (error: unknown) => {
      if (!(error instanceof DivergenceError)) throw error;
      await appendMetrics(folder, divergenceLine(error.divergence, false, seconds()));
      throw new DivergenceError(error.divergence, [...error.remarks, untouched()]);
    });
    const { skipped, ...measured } = result;
    const tokensPerSecond = result.tokens / ((performance.now() - stepStarted) / 1000);
    if (skipped === undefined) {
      await appendMetrics(folder, { ...measured, tokensPerSecond: Math.round(tokensPerSecond), seconds: seconds() });
      const pace = (performance.now() - started) / 1000 / (trainer.step - firstStep);
      onStep?.(result, { seconds: seconds(), tokensPerSecond, secondsLeft: pace * (totalSteps - trainer.step) });
    } else {
      await appendMetrics(folder, divergenceLine(skipped, true, seconds()));
      onSkip?.(skipped);
    }
    if (trainer.step % evaluateEvery === 0 && trainer.step < totalSteps) await evaluate();
    if (samples !== undefined && trainer.step % samples.every === 0) await sample();
    // Of weights that are not sound, the next step tells more.
    if (trainer.step % saveEvery === 0 && trainer.step < totalSteps && (await trainer.sound())) await save();
  }
  if (!(await trainer.sound())) {
    const expected = 'a loss of the next batches that is finite, and not far above the recent ones';
    throw new ElapidError(`train: after step ${String(trainer.step)}, the weights do not give ${expected}. ${untouched()}. Hint: a lower learning rate`);
  }
  await save();
  const interrupted = trainer.step < totalSteps;
  const evaluation = last?.step === trainer.step ? last.evaluation : await evaluate();
  return { evaluation, seconds: seconds(), interrupted };
}

const divergenceLine = (divergence: Divergence, skipped: boolean, seconds: number): DivergenceMetrics => ({
  step: divergence.step,
  divergence: describeDivergence(divergence),
  skipped,
  seconds,
});

/** Removes what a process left behind that was killed while it wrote one of the run's files. */
async function removeTemporaries(folder: string): Promise<void> {
  for (const name of await platform.listFolder(folder)) {
    if (/\.(json|jsonl|safetensors)\.tmp-\d+$/.test(name)) await platform.removeFile(platform.joinPath(folder, name));
  }
}
