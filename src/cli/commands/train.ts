import type { Command } from 'commander';
import type { DocumentDataset, TokenDataset } from '../../data/index.js';
import { mambaConfig, MambaLM } from '../../models/index.js';
import { countParameters } from '../../nn/index.js';
import type { Backend } from '../../tensor/index.js';
import { defaultTrainingOptions, runTraining, Trainer, type TrainingOptions } from '../../train/index.js';
import { compact, duration, grouped } from '../format.js';
import { exitCodes, integer, interruption, number, seedNumber, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { ProgressLine } from '../progress.js';
import { copyTokenizer } from '../tokenizer-files.js';
import { checkRunFolder, readRunFile, writeRunFile, type RunFile } from '../run-file.js';
import { documentOptions, openTrainingData, tokenizerFor, vocabularyOf, type DocumentOptions } from '../training-data.js';

interface Options extends ComputeOptions, DocumentOptions {
  readonly out?: string;
  readonly resume?: string;
  readonly tokenizer?: string;
  readonly dModel: number;
  readonly layers: number;
  readonly dState: number;
  readonly dConv: number;
  readonly expand: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly length: number;
  readonly accumulation: number;
  readonly learningRate: number;
  readonly warmup?: number;
  readonly finalFraction: number;
  readonly weightDecay: number;
  readonly clip: number;
  readonly seed: number;
  readonly validation?: string;
  readonly validationShare: number;
  readonly evaluateEvery?: number;
  readonly saveEvery?: number;
}

/** `elapid train TEXT… --out FOLDER` */
export function addTrain(program: Command): void {
  const defaults = defaultTrainingOptions(1000);
  withComputeOptions(
    documentOptions(program.command('train'))
      .summary('train a language model on a text')
      .description(
        'Trains a Mamba language model on text, on bytes or with a tokenizer: one plain file as one stream; documents (several\n' +
          'files, a separator, JSON lines, or a folder that elapid tokenize made) packed into rows, each seen whole however long.\n' +
          'The run’s folder gets the model in transformers’ format (config.json, model.safetensors), a training checkpoint, and metrics.jsonl (a line a step).\n' +
          'Ctrl-C saves and ends; --resume goes on as if nothing had happened.',
      )
      .argument('[text...]', 'UTF-8 text files, .jsonl files, or a folder of token shards')
      .option('-o, --out <folder>', 'folder of the run')
      .option('--resume <folder>', 'go on with the run in this folder, with the settings it began with')
      .option('--tokenizer <folder>', 'folder with a tokenizer.json (default: bytes)')
      .option('--steps <n>', 'optimiser steps', integer(1), 1000)
      .option('--d-model <n>', 'width of the residual stream', integer(1), 128)
      .option('--layers <n>', 'blocks', integer(1), 4)
      .option('--d-state <n>', 'states per channel', integer(1), 16)
      .option('--d-conv <n>', 'width of the convolution', integer(1), 4)
      .option('--expand <n>', 'channels of a mixer, as a multiple of d-model', integer(1), 2)
      .option('--batch-size <n>', 'sequences a micro-batch', integer(1), defaults.batchSize)
      .option('--length <n>', 'tokens a sequence', integer(1), defaults.length)
      .option('--accumulation <n>', 'micro-batches a step', integer(1), defaults.accumulation)
      .option('--learning-rate <r>', 'at its peak', number(1e-12, 10), defaults.schedule.peak)
      .option('--warmup <n>', 'steps until the peak (default: a tenth of the steps, at most 100)', integer(0))
      .option('--final-fraction <f>', 'learning rate at the end of the cosine, as a part of the peak', number(0, 1), defaults.schedule.finalFraction)
      .option('--weight-decay <w>', 'decoupled decay of matrices', number(0, 10), defaults.weightDecay)
      .option('--clip <n>', 'largest gradient norm', number(1e-12, 1e12), defaults.maxGradientNorm)
      .option('--seed <n>', 'of the weights and of the order of the data', seedNumber, defaults.seed)
      .option('--validation <file>', 'a file (or folder of shards) of its own that is held out')
      .option('--validation-share <s>', 'held out otherwise: the end of a text, every n-th of documents', number(0, 0.9), 0.1)
      .option('--evaluate-every <n>', 'steps between evaluations (default: a tenth of the steps)', integer(1))
      .option('--save-every <n>', 'steps between checkpoints (default: as evaluations)', integer(1)),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid train data/pride-and-prejudice.txt --out runs/austen --steps 300\n  elapid train --resume runs/austen',
    )
    .action(run);
}

async function run(text: readonly string[], options: Options, command: Command): Promise<void> {
  const resume = options.resume !== undefined;
  const folder = options.resume ?? options.out;
  if (folder === undefined) command.error("error: one of '--out <folder>' and '--resume <folder>' is needed");
  if (!resume && text.length === 0) command.error("error: missing argument 'text'");
  if (resume && (text.length > 0 || options.out !== undefined)) {
    command.error("error: '--resume' takes the text and all settings from the run's folder");
  }
  const settings = resume ? await readRunFile(folder) : fromOptions(text, options);
  await checkRunFolder('train', folder, resume);
  const { signal, stop } = interruption();
  try {
    await withBackend(options, (backend) => train(backend, folder, settings, resume, signal));
  } finally {
    stop();
  }
}

function fromOptions(text: readonly string[], options: Options): RunFile {
  const { steps } = options;
  const tenth = Math.ceil(steps / 10);
  const { dModel, layers, dState, dConv, expand, batchSize, length, accumulation, learningRate, finalFraction, weightDecay, seed } = options;
  const { documentSeparator, textField, validation } = options;
  return {
    text: text.length === 1 ? (text[0] as string) : [...text],
    ...(documentSeparator === undefined ? {} : { documentSeparator }),
    ...(textField === undefined ? {} : { textField }),
    ...(validation === undefined ? {} : { validation }),
    tokenizer: options.tokenizer ?? null,
    model: { dModel, layers, dState, dConv, expand },
    training: {
      steps,
      batchSize,
      length,
      accumulation,
      learningRate,
      warmupSteps: options.warmup ?? defaultTrainingOptions(steps).schedule.warmupSteps,
      finalFraction,
      weightDecay,
      maxGradientNorm: options.clip,
      seed,
    },
    validationShare: options.validationShare,
    evaluateEvery: options.evaluateEvery ?? tenth,
    saveEvery: options.saveEvery ?? options.evaluateEvery ?? tenth,
  };
}

function trainingOptions({ training: t }: RunFile): TrainingOptions {
  const { batchSize, length, accumulation, weightDecay, maxGradientNorm, seed } = t;
  const schedule = { peak: t.learningRate, warmupSteps: t.warmupSteps, totalSteps: t.steps, finalFraction: t.finalFraction };
  return { ...defaultTrainingOptions(t.steps), batchSize, length, accumulation, weightDecay, maxGradientNorm, seed, schedule };
}

async function train(backend: Backend, folder: string, settings: RunFile, resume: boolean, signal: AbortSignal): Promise<void> {
  const { tokenizer, folder: tokenizerFolder } = await tokenizerFor(settings);
  const { dataset, size, close } = await openTrainingData(settings, tokenizer);
  try {
    const model = MambaLM.initial(mambaConfig({ vocabularySize: vocabularyOf(tokenizer), ...settings.model }), backend, settings.training.seed);
    await trainModel(model, dataset, { folder, settings, tokenizerFolder, resume, signal, size });
  } finally {
    await close();
  }
}

interface Run {
  readonly folder: string;
  readonly settings: RunFile;
  readonly tokenizerFolder: string | null;
  readonly resume: boolean;
  readonly signal: AbortSignal;
  /** Of the data, for the first line. */
  readonly size: string;
}

async function trainModel(model: MambaLM, dataset: TokenDataset | DocumentDataset, run: Run): Promise<void> {
  const { folder, settings, tokenizerFolder, resume, signal, size } = run;
  const trainer = new Trainer(model, dataset, trainingOptions(settings));
  const progress = new ProgressLine();
  const { steps } = settings.training;
  let latest = '';
  try {
    if (!resume) await writeRunFile(folder, settings);
    if (tokenizerFolder !== null) await copyTokenizer(tokenizerFolder, folder);
    progress.print(`${grouped(countParameters(model.parameters))} parameters, ${size}, on ${model.backend.description}`);
    const result = await runTraining(trainer, {
      folder,
      evaluateEvery: settings.evaluateEvery,
      saveEvery: settings.saveEvery,
      resume,
      signal,
      onStep({ step, loss, learningRate }, { tokensPerSecond, secondsLeft }) {
        progress.show(
          `step ${String(step)}/${String(steps)}  loss ${loss.toFixed(3)}${latest}  rate ${learningRate.toExponential(1)}  ` +
            `${compact(tokensPerSecond)} tok/s  ${duration(secondsLeft)} left`,
        );
      },
      onEvaluation({ loss }, step) {
        latest = `  held-out ${loss.toFixed(3)}`;
        progress.print(`step ${String(step)}/${String(steps)}  held-out loss ${loss.toFixed(4)} nats a token`);
      },
    });
    progress.clear();
    if (result.interrupted) {
      process.stderr.write(`interrupted at step ${String(trainer.step)} and saved. Go on with: elapid train --resume ${folder}\n`);
      process.exitCode = exitCodes.interrupted;
    } else {
      process.stderr.write(`done in ${duration(result.seconds)}: held-out loss ${result.evaluation.loss.toFixed(4)} nats a token, model in ${folder}\n`);
    }
  } finally {
    progress.clear();
    trainer.dispose();
    model.dispose();
  }
}
