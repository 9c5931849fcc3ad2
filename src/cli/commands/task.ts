import { Argument, Option, type Command } from 'commander';
import { LanguageModel } from '../../models/index.js';
import { countParameters } from '../../nn/index.js';
import { inductionByLength, makeTask, presetNames, taskData, taskLayers, taskModel, taskNames, taskPresets, taskTrainingOptions, type PresetName, type TaskLayer, type TaskName, type LengthAccuracy } from '../../tasks/index.js';
import { writeLengths } from '../lengths-file.js';
import type { Backend } from '../../tensor/index.js';
import { describeDivergence, runTraining, Trainer } from '../../train/index.js';
import { compact, duration, grouped } from '../format.js';
import { withFileAdvice } from '../file-advice.js';
import { exitCodes, integer, interruption, number, overwriteOption, refuseFixed, refuseOption, seedNumber, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { withOutFolder, withRunFolder, type OutFolder } from '../out-folder.js';
import { ProgressLine } from '../progress.js';
import { checkBegun, readTaskFile, writeTaskFile, type TaskFile } from '../run-file.js';
import { workOnWithoutReaders } from '../streams.js';

interface Options extends ComputeOptions {
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly resume?: string;
  readonly preset: PresetName;
  readonly ssm: TaskLayer;
  readonly length?: number;
  readonly tokens?: number;
  readonly steps?: number;
  readonly batchSize?: number;
  readonly learningRate?: number;
  readonly testLength?: number;
  readonly examples: number;
  readonly seed: number;
}

/** `elapid task TASK --out FOLDER` */
export function addTask(program: Command): void {
  withComputeOptions(
    program
      .command('task')
      .summary('train on the synthetic tasks of the Mamba paper')
      .description(
        'Trains two Mamba layers on selective copying or induction heads (section 4.1 of the paper) and measures how many ' +
          'answers are right on examples it was not trained on. --ssm lti puts a time-invariant layer in S6’s place, to see ' +
          'what selection is worth. Induction heads end with a test at lengths from 64 up.',
      )
      .addArgument(new Argument('[task]', 'what to learn').choices(taskNames))
      .option('-o, --out <folder>', 'folder of the run')
      .addOption(overwriteOption('replace the model, run or shards in the folder, when the new run has its first checkpoint'))
      .option('--resume <folder>', 'go on with the run in this folder, with the settings it began with but for --steps')
      .addOption(new Option('--preset <name>', 'sizes: the paper’s, or for a minute or two on a CPU').choices(presetNames).default('quick'))
      .addOption(new Option('--ssm <kind>', 'selective layer, or time-invariant').choices(taskLayers).default('s6'))
      .option('--length <n>', 'positions of an example (default of this and the next five: the preset’s, listed below)', integer(3))
      .option('--tokens <n>', 'tokens to copy; for selective-copying', integer(1))
      .option('--steps <n>', 'optimiser steps; with --resume, in all: the learning rate is from then on that of a run of so many', integer(1))
      .option('--batch-size <n>', 'examples a step', integer(1))
      .option('--learning-rate <r>', 'at its peak', number(1e-12, 10))
      .option('--test-length <n>', 'longest example of the test, 64 or more; for induction-heads', integer(64, 2 ** 24))
      .option('--examples <n>', 'examples behind an accuracy', integer(1), 64)
      .option('--seed <n>', 'of the weights and of the examples', seedNumber, 1),
  )
    .addHelpText(
      'after',
      `\nPresets:\n${presetLines()}\n\nExamples:\n  elapid task selective-copying --out runs/copying\n  elapid task selective-copying --ssm lti --out runs/copying-lti\n` +
        '  elapid task induction-heads --out runs/induction',
    )
    .action(run);
}

/** Sizes of the presets, a line each. */
function presetLines(): string {
  const lines = taskNames.flatMap((task) =>
    presetNames.map((preset) => {
      const { length, tokens, steps, batchSize, learningRate, testLength } = taskPresets[task][preset];
      const own = task === 'selective-copying' ? `--tokens ${tokens}` : `--test-length ${testLength}`;
      return `  ${task} ${preset}:  --length ${length} ${own} --steps ${steps} --batch-size ${batchSize} --learning-rate ${learningRate}`;
    }),
  );
  return lines.join('\n');
}

async function run(task: TaskName | undefined, options: Options, command: Command): Promise<void> {
  const resume = options.resume !== undefined;
  const folder = options.resume ?? options.out;
  if (folder === undefined) command.error("error: one of '--out <folder>' and '--resume <folder>' is needed");
  if (!resume && task === undefined) command.error("error: missing argument 'task'");
  if (resume && (task !== undefined || options.out !== undefined)) {
    command.error("error: '--resume' takes the task and all settings from the run's folder");
  }
  if (resume) refuseFixed(command, ['steps']);
  if (task === 'induction-heads') refuseOption(command, 'tokens', 'is for selective-copying');
  if (task === 'selective-copying') refuseOption(command, 'testLength', 'is for induction-heads');
  workOnWithoutReaders();
  const { signal, stop } = interruption();
  const compute = (settings: TaskFile, out: OutFolder) => withBackend(options, (backend) => train(backend, settings, { folder, out, resume, signal }));
  try {
    if (task === undefined) {
      await withRunFolder('task', folder, async () => {
        const { sizes, ...settings } = await readTaskFile(folder);
        await checkBegun('task', folder);
        const { steps = sizes.steps } = options;
        await compute({ ...settings, sizes: { ...sizes, steps } }, { working: folder, settle: () => Promise.resolve(folder) });
      });
    } else {
      const use = { operation: 'task', folder, overwrite: options.overwrite === true, aside: false, runFile: 'task.json' };
      await withOutFolder(use, (out) => compute(fromOptions(task, options), out));
    }
  } finally {
    stop();
  }
}

function fromOptions(task: TaskName, options: Options): TaskFile {
  const { ssm, examples, seed } = options;
  const preset = taskPresets[task][options.preset];
  const { length = preset.length, tokens = preset.tokens, steps = preset.steps, batchSize = preset.batchSize } = options;
  const { learningRate = preset.learningRate, testLength = preset.testLength } = options;
  return { task, ssm, sizes: { ...preset, length, tokens, steps, batchSize, learningRate, testLength }, examples, seed };
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

/** How this process goes about a run. */
interface Conduct {
  /** The run's folder. */
  readonly folder: string;
  /** Where the run is written until its first checkpoint. */
  readonly out: OutFolder;
  readonly resume: boolean;
  readonly signal: AbortSignal;
}

async function train(backend: Backend, settings: TaskFile, { folder, out, resume, signal }: Conduct): Promise<void> {
  const { ssm, sizes, examples, seed } = settings;
  const { steps, batchSize, testLength } = sizes;
  const task = makeTask(settings.task, sizes);
  const { family, config } = taskModel(task, ssm);
  const model = LanguageModel.initial(family, config, backend, seed);
  const data = taskData(task, { batchSize, batches: Math.ceil(examples / batchSize), seed });
  const trainer = new Trainer(model, data, taskTrainingOptions(task, sizes, seed));
  const progress = new ProgressLine();
  let latest = '';
  let begun = resume;
  try {
    const every = Math.min(1000, Math.ceil(steps / 10));
    const result = await runTraining(trainer, {
      folder: out.working,
      evaluateEvery: every,
      saveEvery: every,
      resume,
      signal,
      async onBegin() {
        await writeTaskFile(out.working, settings);
        progress.print(`${task.description}; ${ssm}, ${grouped(countParameters(model.parameters))} parameters, on ${backend.description}`);
      },
      settle() {
        begun = true;
        return out.settle();
      },
      onStep({ step, loss }, { tokensPerSecond, secondsLeft }) {
        progress.show(
          `step ${step}/${steps}  loss ${loss.toFixed(3)}${latest}  ${compact(tokensPerSecond)} tok/s  ${duration(secondsLeft)} left`,
        );
      },
      onSkip: (divergence) => progress.print(`left out: ${describeDivergence(divergence)}`),
      onEvaluation({ accuracy = NaN, loss }, step) {
        latest = `  accuracy ${percent(accuracy)}`;
        progress.print(`step ${step}/${steps}  accuracy ${percent(accuracy)}  loss ${loss.toFixed(4)} nats an answer`);
      },
    });
    progress.clear();
    if (result.interrupted) {
      process.stderr.write(`interrupted at step ${trainer.step} and saved. Go on with: elapid task --resume ${folder}\n`);
      process.exitCode = exitCodes.interrupted;
      return;
    }
    const { accuracy = NaN, tokens = 0 } = result.evaluation ?? {};
    process.stdout.write(`${settings.task}  ${ssm}  accuracy ${percent(accuracy)} of ${grouped(tokens)} answers\n`);
    if (settings.task === 'induction-heads') {
      process.stdout.write('   length  accuracy\n');
      const lengths: LengthAccuracy[] = [];
      for await (const one of inductionByLength(model, { longest: testLength, examples, seed, signal })) {
        process.stdout.write(`${grouped(one.length).padStart(9)}  ${percent(one.accuracy)}\n`);
        lengths.push(one);
      }
      await writeLengths(folder, lengths);
    }
    process.stderr.write(`done in ${duration(result.seconds)} of training, model in ${folder}\n`);
  } catch (error) {
    if (error !== signal.reason) throw withFileAdvice(error, 'task', folder, begun);
    process.exitCode = exitCodes.interrupted;
  } finally {
    progress.clear();
    trainer.dispose();
    model.dispose();
  }
}
