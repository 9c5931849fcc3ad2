import { platform } from '#platform';
import { saveMamba } from '../models/index.js';
import { ElapidError } from '../util/errors.js';
import type { Evaluation } from './evaluate.js';
import { appendMetrics, truncateMetrics } from './metrics.js';
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
  readonly signal?: AbortSignal;
  readonly onStep?: (result: StepResult, timing: RunTiming) => void;
  readonly onEvaluation?: (evaluation: Evaluation, step: number) => void;
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
 * @throws ElapidError when the loss is not finite: the last good checkpoint stays as it is
 * @throws CheckpointError when `resume` finds none, or one that does not fit
 */
export async function runTraining(trainer: Trainer, options: RunOptions): Promise<RunResult> {
  const { folder, evaluateEvery, saveEvery, resume, signal, onStep, onEvaluation } = options;
  const checkpointPath = platform.joinPath(folder, trainingCheckpointName);
  await platform.makeFolder(folder);
  await removeTemporaries(folder);
  const secondsBefore = resume ? await restoreTraining(trainer, checkpointPath) : 0;
  await truncateMetrics(folder, resume ? trainer.step : -1);

  const firstStep = trainer.step;
  const { totalSteps } = trainer.options.schedule;
  const started = performance.now();
  const seconds = () => secondsBefore + (performance.now() - started) / 1000;
  const save = async () => {
    await saveMamba(trainer.model, folder);
    await saveTraining(trainer, checkpointPath, seconds());
  };
  let last: { evaluation: Evaluation; step: number } | undefined;
  const evaluate = async () => {
    const evaluation = await trainer.evaluate();
    last = { evaluation, step: trainer.step };
    const { loss: validationLoss, tokens: validationTokens, accuracy } = evaluation;
    const measured = { validationLoss, validationTokens, ...(accuracy === undefined ? {} : { validationAccuracy: accuracy }) };
    await appendMetrics(folder, { step: trainer.step, ...measured, seconds: seconds() });
    onEvaluation?.(evaluation, trainer.step);
    return evaluation;
  };

  while (trainer.step < totalSteps && signal?.aborted !== true) {
    const stepStarted = performance.now();
    const result = await trainer.trainStep();
    const tokensPerSecond = result.tokens / ((performance.now() - stepStarted) / 1000);
    await appendMetrics(folder, { ...result, tokensPerSecond: Math.round(tokensPerSecond), seconds: seconds() });
    if (!Number.isFinite(result.loss) || !Number.isFinite(result.gradientNorm)) {
      throw new ElapidError(
        `train: step ${String(result.step)} has loss ${String(result.loss)} and gradient norm ${String(result.gradientNorm)}; ` +
          'the last checkpoint is untouched. Hint: a lower learning rate, or a longer warm-up',
      );
    }
    const pace = (performance.now() - started) / 1000 / (trainer.step - firstStep);
    onStep?.(result, { seconds: seconds(), tokensPerSecond, secondsLeft: pace * (totalSteps - trainer.step) });
    if (trainer.step % evaluateEvery === 0 && trainer.step < totalSteps) await evaluate();
    if (trainer.step % saveEvery === 0 && trainer.step < totalSteps) await save();
  }
  await save();
  const interrupted = trainer.step < totalSteps;
  const evaluation = last?.step === trainer.step ? last.evaluation : await evaluate();
  return { evaluation, seconds: seconds(), interrupted };
}

/** Removes what a process left behind that was killed while it wrote one of the run's files. */
async function removeTemporaries(folder: string): Promise<void> {
  for (const name of await platform.listFolder(folder)) {
    if (/\.(json|jsonl|safetensors)\.tmp-\d+$/.test(name)) await platform.removeFile(platform.joinPath(folder, name));
  }
}
