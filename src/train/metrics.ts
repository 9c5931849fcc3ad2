import { platform } from '#platform';
import { CheckpointError } from '../util/errors.js';

/** The file of a run's folder with one JSON object a line: steps and evaluations. */
export const metricsName = 'metrics.jsonl';

/** A line of a training step. */
export interface StepMetrics {
  readonly step: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Time spent training so far. */
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
  if ((await platform.pathKind(file)) !== 'file') throw new CheckpointError('is missing; expected a training run', { file });
  const lines = metricsLines(new TextDecoder().decode(await platform.readFile(file)));
  return {
    steps: lines.filter((line): line is StepMetrics => 'loss' in line),
    evaluations: lines.filter((line): line is EvaluationMetrics => 'validationLoss' in line),
  };
}

/** Keeps the lines of a metrics file up to a step: those after it will be made again. */
export async function truncateMetrics(folder: string, lastStep: number): Promise<void> {
  const file = platform.joinPath(folder, metricsName);
  const exists = (await platform.pathKind(file)) === 'file';
  const lines = exists ? metricsLines(new TextDecoder().decode(await platform.readFile(file))) : [];
  const kept = lines.filter(({ step }) => step <= lastStep).map((line) => `${JSON.stringify(line)}\n`);
  await platform.writeFileAtomically(file, [new TextEncoder().encode(kept.join(''))]);
}

/** Appends a line. */
export async function appendMetrics(folder: string, line: StepMetrics | EvaluationMetrics): Promise<void> {
  await platform.appendText(platform.joinPath(folder, metricsName), `${JSON.stringify(line)}\n`);
}

function metricsLines(text: string): (StepMetrics | EvaluationMetrics)[] {
  return text.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line) as StepMetrics | EvaluationMetrics];
    } catch {
      // The process may have been killed in the middle of a line.
      return [];
    }
  });
}
