import { platform } from '#platform';
import { CheckpointError } from '../util/errors.js';

/** The file of a run's folder with one JSON object a line. */
export const metricsName = 'metrics.jsonl';

/** A line of a training step. */
export interface StepMetrics {
  readonly step: number;
  /** Of the task alone. */
  readonly loss: number;
  /** What was added to it, by name (`StepResult.auxiliaryLosses`). */
  readonly auxiliaryLosses?: Readonly<Record<string, number>>;
  /** By name, a number for each layer that has it: `dropped`, the share of tokens that experts dropped. */
  readonly measures?: Readonly<Record<string, readonly number[]>>;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** In mixed precision. */
  readonly lossScale?: number;
  /** Time spent on training steps so far; evaluations, samples and saving do not count. */
  readonly seconds: number;
}

/** A line of an evaluation on the held-out tokens. */
export interface EvaluationMetrics {
  readonly step: number;
  readonly validationLoss: number;
  readonly validationTokens: number;
  readonly validationAccuracy?: number;
  readonly seconds: number;
}

/** A line of a text that the model made after a step. */
export interface SampleMetrics {
  readonly step: number;
  readonly prompt: string;
  /** What the model wrote after the prompt. */
  readonly sample: string;
  readonly seconds: number;
}

/** A line of a step that changed nothing, see `Divergence`. */
export interface DivergenceMetrics {
  readonly step: number;
  /** What happened, for people. */
  readonly divergence: string;
  /** Whether the run went on. */
  readonly skipped: boolean;
  readonly seconds: number;
}

export type MetricsLine = StepMetrics | EvaluationMetrics | SampleMetrics | DivergenceMetrics;

/** The metrics of a run, in the order they were written. */
export interface Metrics {
  readonly steps: readonly StepMetrics[];
  readonly evaluations: readonly EvaluationMetrics[];
}

/**
 * Reads the metrics of a run's folder. A last line that a kill cut short is left out.
 * @throws CheckpointError when there are none
 */
export async function readMetrics(folder: string): Promise<Metrics> {
  const file = platform.joinPath(folder, metricsName);
  if ((await platform.pathKind(file)) !== 'file') throw new CheckpointError('is missing; expected the folder of a training run', { file });
  const lines = metricsLines(new TextDecoder().decode(await platform.readFile(file)));
  return {
    steps: lines.filter((line): line is StepMetrics => 'loss' in line),
    evaluations: lines.filter((line): line is EvaluationMetrics => 'validationLoss' in line),
  };
}

/** Keeps the lines of a metrics file up to a step, and gives them: those after it will be made again. */
export async function truncateMetrics(folder: string, lastStep: number): Promise<readonly MetricsLine[]> {
  const file = platform.joinPath(folder, metricsName);
  const exists = (await platform.pathKind(file)) === 'file';
  const lines = exists ? metricsLines(new TextDecoder().decode(await platform.readFile(file))) : [];
  const kept = lines.filter(({ step }) => step <= lastStep);
  await platform.writeFileAtomically(file, [new TextEncoder().encode(kept.map((line) => `${JSON.stringify(line)}\n`).join(''))]);
  return kept;
}

/** Appends a line. */
export async function appendMetrics(folder: string, line: MetricsLine): Promise<void> {
  await platform.appendText(platform.joinPath(folder, metricsName), `${JSON.stringify(line)}\n`);
}

function metricsLines(text: string): MetricsLine[] {
  return text.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line) as MetricsLine];
    } catch {
      // The process may have been killed in the middle of a line.
      return [];
    }
  });
}
