import { Option, type Command } from 'commander';
import { readMetrics, type Metrics } from '../../train/index.js';
import { readLengths } from '../lengths-file.js';
import { lineCharts, type Curve } from '../line-chart.js';
import { overwriteOption } from '../options.js';
import { isTaskRun } from '../run-file.js';
import { shortNames } from '../short-names.js';
import { workOnWithoutReaders } from '../streams.js';
import { checkSvgFile, writeSvgFile } from '../svg-file.js';

interface Options {
  readonly out: string;
  readonly overwrite?: boolean;
  readonly x: 'steps' | 'minutes' | 'tokens' | 'length';
}

/** `elapid plot RUN… --out FILE` */
export function addPlot(program: Command): void {
  program
    .command('plot')
    .summary('draw the loss of training runs')
    .description(
      'Draws training and held-out loss of one or several runs as an SVG file; along length, the accuracy of finished runs of ' +
        'elapid task induction-heads.',
    )
    .argument('<runs...>', 'folders of training runs')
    .requiredOption('-o, --out <file>', 'the SVG file to write, NAME.svg; another plot in its place is replaced')
    .addOption(overwriteOption('replace a file that is no SVG'))
    .addOption(new Option('--x <axis>', 'what runs along the horizontal axis').choices(['steps', 'minutes', 'tokens', 'length']).default('steps'))
    .addHelpText('after', '\nExamples:\n  elapid plot runs/austen --out austen.svg --x minutes\n  elapid plot runs/mamba runs/other --out compared.svg --x tokens')
    .action(run);
}

async function run(folders: readonly string[], { out, overwrite = false, x }: Options): Promise<void> {
  workOnWithoutReaders();
  await checkSvgFile('plot', out, overwrite);
  const svg = x === 'length' ? await accuracyByLength(folders) : await losses(folders, x);
  await writeSvgFile(out, svg);
  process.stdout.write(`${out}\n`);
}

type LossAxis = Exclude<Options['x'], 'length'>;

async function losses(folders: readonly string[], x: LossAxis): Promise<string> {
  const several = folders.length > 1;
  const names = shortNames(folders);
  const curves: Curve[] = [];
  let answers = true;
  for (const [group, folder] of folders.entries()) {
    const metrics = await readMetrics(folder);
    // Whoever counts right answers gives answers, not tokens.
    answers &&= metrics.evaluations.some(({ validationAccuracy }) => validationAccuracy !== undefined) || (await isTaskRun(folder));
    const at = position(metrics, x);
    const label = (what: string) => (several ? (names[group] ?? '') : what);
    const steps = metrics.steps.map((step) => [at(step), step.loss] as const);
    // The noise of several runs would hide the runs.
    curves.push({ label: label('training'), points: smooth(steps, several ? 150 : 400), faint: true, group });
    const heldOut = metrics.evaluations.map((evaluation) => [at(evaluation), evaluation.validationLoss] as const);
    if (heldOut.length > 0) curves.push({ label: label('held out'), points: heldOut, faint: false, group });
  }
  const axis = { steps: 'steps', minutes: 'minutes of training', tokens: 'tokens seen' }[x];
  const title = several ? 'Loss: held out (thick), training (thin)' : 'Loss';
  return lineCharts([{ curves, axes: { x: axis, y: answers ? 'nats an answer' : 'nats a token', title } }]);
}

const raised = (exponent: number): string => String(exponent).replace(/\d/g, (digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'.charAt(Number(digit)));

async function accuracyByLength(folders: readonly string[]): Promise<string> {
  const all = await Promise.all(folders.map(readLengths));
  const names = shortNames(folders);
  const curves = all.map((lengths, group): Curve => {
    const points = lengths.map(({ length, accuracy }) => [length, 100 * accuracy] as const);
    return { label: names[group] ?? '', points, group };
  });
  const axes = { title: 'Accuracy by length', x: 'length', y: '% right', yRange: [0, 100], log: 'x', xLabel: (length: number) => `2${raised(Math.log2(length))}` } as const;
  return lineCharts([{ curves, axes }]);
}

function position({ steps }: Metrics, x: LossAxis): (entry: { step: number; seconds: number }) => number {
  const tokensPerStep = steps[0]?.tokens ?? 1;
  return ({ step, seconds }) => (x === 'steps' ? step : x === 'minutes' ? seconds / 60 : step * tokensPerStep);
}

/** At most `most` points, each the mean of its neighbours: a line for every step would be a band of noise. */
function smooth(points: readonly (readonly [number, number])[], most: number): (readonly [number, number])[] {
  const group = Math.max(1, Math.ceil(points.length / most));
  const smoothed: (readonly [number, number])[] = [];
  for (let start = 0; start < points.length; start += group) {
    const part = points.slice(start, start + group);
    const mean = part.reduce((sum, [, y]) => sum + y, 0) / part.length;
    smoothed.push([part.at(-1)?.[0] ?? 0, mean]);
  }
  return smoothed;
}
