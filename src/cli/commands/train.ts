import { platform } from '#platform';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { DocumentDataset, TokenDataset } from '../../data/index.js';
import { familyNamed, familyNames, LanguageModel, type BaseConfig, type FamilyOptions, type ModelFamily } from '../../models/index.js';
import { defaultFamily } from '../../models/registry.js';
import { countParameters } from '../../nn/index.js';
import type { Backend } from '../../tensor/index.js';
import { defaultTrainingOptions, describeDivergence, DivergenceError, runTraining, Trainer, type TrainingOptions } from '../../train/index.js';
import type { Tokenizer } from '../../tokenizer/index.js';
import { ArgumentError, ElapidError } from '../../util/errors.js';
import { dashboardPort, startDashboard } from '../dashboard.js';
import { withFileAdvice } from '../file-advice.js';
import { byteSize, compact, duration, grouped } from '../format.js';
import { exitCodes, integer, interruption, number, overwriteOption, refuseFixed, refuseOption, seedNumber, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { withOutFolder, withRunFolder, type OutFolder } from '../out-folder.js';
import { ProgressLine } from '../progress.js';
import { samplePrompt, textSample } from '../text-samples.js';
import { copyTokenizer } from '../tokenizer-files.js';
import { checkBegun, located, readRunFile, writeRunFile, type RunFile } from '../run-file.js';
import { workOnWithoutReaders } from '../streams.js';
import { isShards } from '../text-paths.js';
import { checkDocumentOptions, documentOptions, openTrainingData, textsArgument, tokenizerFor, vocabularyOf, type DocumentOptions } from '../training-data.js';

interface Options extends ComputeOptions, DocumentOptions {
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly resume?: string;
  readonly tokenizer?: string;
  readonly model: string;
  readonly size?: string;
  readonly dModel: number;
  readonly layers: number;
  readonly dState?: number;
  readonly dConv?: number;
  readonly expand?: number;
  readonly set?: FamilyOptions;
  readonly steps: number;
  readonly maxMinutes?: number;
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
  readonly onDivergence: 'stop' | 'skip';
  readonly recompute?: boolean;
  readonly sampleEvery?: number;
  readonly dashboard?: number | true;
}

/** Settings of a run that may be given anew when it is resumed. */
const changeable = ['steps', 'maxMinutes', 'learningRate', 'onDivergence', 'recompute', 'sampleEvery'] as const;

/** Sizes that not every family has: what is not given is the family's to choose. */
const familySizes = ['dState', 'dConv', 'expand'] as const;

/** `elapid train TEXT… --out FOLDER` */
export function addTrain(program: Command): void {
  const defaults = defaultTrainingOptions(1000);
  withComputeOptions(
    documentOptions(program.command('train'))
      .summary('train a language model on a text')
      .description(
        'Trains a language model on text, on bytes or with a tokenizer: one plain file as one stream; documents (several ' +
          'files, a separator, JSON lines, or a folder that elapid tokenize made) packed into rows, each seen whole however long.\n\n' +
          'The run’s folder gets the model in transformers’ format (config.json, model.safetensors), a training checkpoint, and metrics.jsonl (a line a step). ' +
          'Ctrl-C saves and ends; --resume goes on as if nothing had happened. A step whose loss or gradient is not finite, or whose ' +
          'loss is far above the recent ones, changes nothing: the run says where it comes from, and stops or goes on without it.\n\n' +
          'Losses are in nats a token: the mean of −ln of the probability that the right token was given. A model that knows nothing ' +
          'begins near ln of the number of ids (5.5 for bytes); lower is better.',
      )
      .argument('[text...]', `${textsArgument}, or one folder of token shards`)
      .option('-o, --out <folder>', 'folder of the run')
      .addOption(overwriteOption('replace the model, run or shards in the folder, when the new run has its first checkpoint'))
      .option('--resume <folder>', 'go on with the run in this folder; only --steps, --max-minutes, --learning-rate, --on-divergence, --recompute and --sample-every may be given anew')
      .option('--tokenizer <folder>', 'folder with a tokenizer.json; for texts (default: bytes, 256 ids)')
      .option('--steps <n>', 'optimiser steps; with --resume, the new total, which the learning rate follows from then on', integer(1), 1000)
      .option(
        '--max-minutes <m>',
        'minutes of training steps, evaluations and saving aside, after which the run ends; --steps then has no default. The learning rate ' +
          'follows the time, at its peak after a tenth of it if not after --warmup, and at its end with the time: runs of one time compare ' +
          'fairly whatever their pace, but a run does not repeat to the bit (metrics.jsonl has each step’s rate). With --steps too, the rate ' +
          'follows whichever is further',
        number(0.001, 1e6),
      )
      .addOption(new Option('--model <family>', 'family of the model').choices(familyNames()).default(defaultFamily))
      .addOption(new Option('--size <name>', `sizes of a published model, in place of the next five options (${describeSizes()})`).conflicts(['dModel', 'layers', ...familySizes]))
      .option('--d-model <n>', 'width of the residual stream, numbers a token', integer(1), 128)
      .option('--layers <n>', 'blocks', integer(1), 4)
      .option('--d-state <n>', 'numbers of state a channel, of Mamba families (default: the family’s)', integer(1))
      .option('--d-conv <n>', 'width of the convolution, tokens, of Mamba families (default: 4)', integer(1))
      .option('--expand <n>', 'channels of a mixer, as a multiple of d-model, of Mamba families (default: 2)', integer(1))
      .addOption(
        new Option('--set <name=value>', 'another size or kind of the family, by the name that its configOf has (docs/models.md), as heads=8; may be repeated').argParser(familyOption),
      )
      .option('--batch-size <n>', 'sequences computed at once, a micro-batch', integer(1), defaults.batchSize)
      .option('--length <n>', 'tokens a sequence: how far back gradients reach', integer(1), defaults.length)
      .option('--accumulation <n>', 'micro-batches whose gradients make a step', integer(1), defaults.accumulation)
      .option('--learning-rate <r>', 'of AdamW, at its peak', number(1e-12, 10), defaults.schedule.peak)
      .option('--warmup <n>', 'steps until the peak (default: a tenth of the steps, at most 100)', integer(0))
      .option('--final-fraction <f>', 'learning rate at the end of the cosine, as a part of the peak', number(0, 1), defaults.schedule.finalFraction)
      .option('--weight-decay <w>', 'of AdamW: decay of matrices, decoupled from the gradient', number(0, 10), defaults.weightDecay)
      .option('--clip <n>', 'largest gradient norm: a larger gradient is scaled down to it', number(1e-12, 1e12), defaults.maxGradientNorm)
      .option('--seed <n>', 'of the weights and of the order of the data', seedNumber, defaults.seed)
      .option('--validation <file>', 'a file, or a folder of texts or of shards, that is held out: measured, not trained on')
      .option('--validation-share <s>', 'part that is held out otherwise, from 0 to 0.9: the end of a text, every n-th of documents; 0: nothing, and no evaluations', number(0, 0.9), 0.1)
      .option('--evaluate-every <n>', 'steps between evaluations (default: a tenth of the run)', integer(1))
      .option('--save-every <n>', 'steps between checkpoints (default: as evaluations)', integer(1))
      .addOption(
        new Option('--on-divergence <what>', 'stop, or leave the step out and go on, at most ten times in a row').choices(['stop', 'skip']).default('stop'),
      )
      .option('--recompute', 'keep no activations within blocks: gradients run each block again, in less memory and up to a third more time, to the same numbers')
      .option('--sample-every <n>', 'steps between texts of 200 tokens that the model writes after the beginning of the held-out text (default: none)', integer(1))
      .option('--dashboard [port]', `serve a page that shows the run as it goes (default port: ${dashboardPort}, or any that is free)`, integer(1, 65535)),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid train data/pride-and-prejudice.txt --out runs/austen --steps 300\n' +
        '  elapid train data/pride-and-prejudice.txt --out runs/watched --dashboard --sample-every 50\n' +
        '  elapid train data/pride-and-prejudice.txt --out runs/ten-minutes --max-minutes 10\n  elapid train --resume runs/austen',
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
  if (resume) refuseFixed(command, changeable);
  else {
    checkSize(options, command);
    checkFamilySizes(options, command);
    await checkDataOptions(text, options, command);
  }
  if (options.validationShare === 0 && options.validation === undefined && options.evaluateEvery !== undefined) {
    command.error("error: '--evaluate-every' needs something that is held out, and '--validation-share 0' holds nothing out");
  }
  workOnWithoutReaders();
  const { signal, stop } = interruption();
  const conduct = { resume, signal, dashboard: options.dashboard };
  const compute = (settings: RunFile, out: OutFolder) => withBackend(options, (backend) => train(backend, settings, { ...conduct, folder, out }));
  try {
    if (resume) {
      await withRunFolder('train', folder, async () => {
        const settings = await readRunFile(folder);
        await checkBegun('train', folder);
        await compute(changed(await located(settings, folder), options, command), { working: folder, settle: () => Promise.resolve(folder) });
      });
    } else {
      const settings = fromOptions(text, folder, options, command);
      const reads = [settings.text, settings.validation ?? []].flat();
      const use = { operation: 'train', folder, overwrite: options.overwrite === true, aside: false, runFile: 'run.json', reads };
      await withOutFolder({ ...use, tokenizer: settings.tokenizer }, (out) => compute(settings, out));
    }
  } finally {
    stop();
  }
}

/** The published sizes by family: `mamba: 130m, …`. */
const describeSizes = (): string =>
  familyNames()
    .map(familyNamed)
    .flatMap(({ name, sizes }) => (sizes === undefined ? [] : [`${name}: ${sizes.join(', ')}`]))
    .join('; ');

/** The config of a run. What has a context length gets that of the sequences it is trained on, unless another was asked for. */
function configOf(family: ModelFamily, options: FamilyOptions, length: number): BaseConfig {
  const config = family.configOf(options);
  return config.contextLength === undefined || 'contextLength' in options ? config : { ...config, contextLength: length };
}

/** Adds `name=value` to the options of a family. */
function familyOption(text: string, earlier: FamilyOptions = {}): FamilyOptions {
  const [, name, value] = /^([A-Za-z][A-Za-z-]*)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('expected name=value, as heads=8');
  const key = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const worth = value === 'true' || value === 'false' ? value === 'true' : Number.isFinite(Number(value)) ? Number(value) : value;
  return { ...earlier, [key]: worth };
}

/** Ends with a usage error where the family has no published model of the size. */
function checkSize({ model, size }: Options, command: Command): void {
  const { sizes = [] } = familyNamed(model);
  if (size === undefined || sizes.includes(size)) return;
  const expected = sizes.length === 0 ? `No size of ${model} has a name; give --d-model and --layers` : `Allowed choices for ${model} are ${sizes.join(', ')}`;
  command.error(`error: option '--size <name>' argument '${size}' is invalid. ${expected}.`);
}

/** Ends with a usage error where a size was given that the family does not have. */
function checkFamilySizes({ model, size, dModel, layers, set, ...sizes }: Options, command: Command): void {
  if (set !== undefined) {
    try {
      familyNamed(model).configOf({ vocabularySize: 256, ...(size === undefined ? { dModel, layers } : { size }), ...set });
    } catch (error) {
      if (!(error instanceof ArgumentError)) throw error;
      command.error(`error: option '--set <name=value>' is invalid. ${error.message}`);
    }
  }
  for (const name of familySizes) {
    const { [name]: value } = sizes;
    if (value === undefined) continue;
    try {
      familyNamed(model).configOf({ vocabularySize: 256, dModel, layers, [name]: value });
    } catch (error) {
      // A size that the family has may still be one that cannot be: making the model says so.
      if (error instanceof ArgumentError && error.argument === 'options') refuseOption(command, name, `is none of the family ${model}`);
    }
  }
}

/** Ends with a usage error where an option about the data would have no effect. */
async function checkDataOptions(text: readonly string[], { validation }: Options, command: Command): Promise<void> {
  await checkDocumentOptions(command, [...text, ...(validation === undefined ? [] : [validation])]);
  if (validation !== undefined) refuseOption(command, 'validationShare', "has no effect with '--validation', which names what is held out");
  const [path] = text;
  if (path !== undefined && (await isShards(path))) refuseOption(command, 'tokenizer', 'is for texts; token shards are of the tokenizer in their folder');
}

/** The settings of a run that is resumed, with those that were given anew. */
function changed(settings: RunFile, options: Options, command: Command): RunFile {
  const given = (name: (typeof changeable)[number]) => command.getOptionValueSource(name) === 'cli';
  const { steps, maxMinutes, learningRate, onDivergence, recompute, sampleEvery } = options;
  return {
    ...settings,
    training: {
      ...settings.training,
      ...(given('steps') ? { steps } : {}),
      ...(maxMinutes === undefined ? {} : { maxMinutes }),
      ...(given('learningRate') ? { learningRate } : {}),
      ...(given('onDivergence') ? { onDivergence } : {}),
      ...(recompute === undefined ? {} : { recompute }),
    },
    ...(sampleEvery === undefined ? {} : { sampleEvery }),
  };
}

function fromOptions(text: readonly string[], folder: string, options: Options, command: Command): RunFile {
  const { maxMinutes } = options;
  const steps = maxMinutes === undefined || command.getOptionValueSource('steps') === 'cli' ? options.steps : Infinity;
  const evaluateEvery = options.evaluateEvery ?? (maxMinutes === undefined ? Math.ceil(steps / 10) : undefined);
  const saveEvery = options.saveEvery ?? evaluateEvery;
  const { model: family, size, dModel, layers, batchSize, length, accumulation, learningRate, finalFraction, weightDecay, seed } = options;
  const { documentSeparator, textField, validation, onDivergence, sampleEvery } = options;
  const given = Object.fromEntries(familySizes.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]])));
  // The run may be resumed from another working folder.
  const paths = text.map((path) => platform.absolutePath(path));
  return {
    folder: platform.absolutePath(folder),
    text: paths.length === 1 ? (paths[0] as string) : paths,
    ...(documentSeparator === undefined ? {} : { documentSeparator }),
    ...(textField === undefined ? {} : { textField }),
    ...(validation === undefined ? {} : { validation: platform.absolutePath(validation) }),
    tokenizer: options.tokenizer === undefined ? null : platform.absolutePath(options.tokenizer),
    model: { ...(family === defaultFamily ? {} : { family }), ...(size === undefined ? { dModel, layers, ...given } : { size }), ...(options.set === undefined ? {} : { set: options.set }) },
    training: {
      ...(steps === Infinity ? {} : { steps }),
      ...(maxMinutes === undefined ? {} : { maxMinutes }),
      batchSize,
      length,
      accumulation,
      learningRate,
      warmupSteps: options.warmup ?? defaultTrainingOptions(steps).schedule.warmupSteps,
      finalFraction,
      weightDecay,
      maxGradientNorm: options.clip,
      seed,
      onDivergence,
      ...(options.recompute === undefined ? {} : { recompute: options.recompute }),
    },
    validationShare: options.validationShare,
    ...(evaluateEvery === undefined ? {} : { evaluateEvery }),
    ...(saveEvery === undefined ? {} : { saveEvery }),
    ...(sampleEvery === undefined ? {} : { sampleEvery }),
  };
}

function trainingOptions({ training: t }: RunFile): TrainingOptions {
  const { steps = Infinity, batchSize, length, accumulation, weightDecay, maxGradientNorm, seed, onDivergence, recompute = false } = t;
  const schedule = { peak: t.learningRate, warmupSteps: t.warmupSteps, totalSteps: steps, finalFraction: t.finalFraction };
  return { ...defaultTrainingOptions(steps), batchSize, length, accumulation, weightDecay, maxGradientNorm, seed, schedule, onDivergence, recompute };
}

/** How this process goes about a run. */
interface Conduct {
  /** The run's folder. */
  readonly folder: string;
  /** Where the run is written until its first checkpoint. */
  readonly out: OutFolder;
  readonly resume: boolean;
  readonly signal: AbortSignal;
  /** The port of the dashboard, or true for one that is free, or undefined for none. */
  readonly dashboard: number | true | undefined;
}

async function train(backend: Backend, settings: RunFile, conduct: Conduct): Promise<void> {
  const { tokenizer, folder: tokenizerFolder } = await tokenizerFor(settings);
  const { dataset, size, close } = await openTrainingData(settings, tokenizer);
  const { folder, out, dashboard: port } = conduct;
  const progress = new ProgressLine();
  let working = out.working;
  const settle = async () => (working = await out.settle());
  try {
    const { steps } = settings.training;
    const run = { folder, ...(steps === undefined ? {} : { steps }), working: () => working };
    const dashboard = port === undefined ? null : await startDashboard(run, port === true ? undefined : port);
    try {
      if (dashboard !== null) progress.print(`dashboard at ${dashboard.url}`);
      const endOfText = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
      const { family: name = defaultFamily, set = {}, ...sizes } = settings.model;
      const family = familyNamed(name);
      const config = { ...configOf(family, { ...sizes, ...set, vocabularySize: vocabularyOf(tokenizer) }, settings.training.length), endOfText };
      const model = LanguageModel.initial(family, config, backend, settings.training.seed);
      await trainModel(model, { dataset, size, tokenizer, tokenizerFolder, settings }, { ...conduct, out: { working, settle } }, progress);
    } finally {
      progress.clear();
      await dashboard?.close();
    }
  } finally {
    await close();
  }
}

interface Run {
  readonly dataset: TokenDataset | DocumentDataset;
  /** Of the data, for the first line. */
  readonly size: string;
  readonly tokenizer: Tokenizer;
  readonly tokenizerFolder: string | null;
  readonly settings: RunFile;
}

async function trainModel(model: LanguageModel, run: Run, { folder, out, resume, signal }: Conduct, progress: ProgressLine): Promise<void> {
  const { dataset, size, tokenizer, tokenizerFolder, settings } = run;
  const { evaluateEvery, saveEvery, sampleEvery, training } = settings;
  const { steps, maxMinutes, seed } = training;
  const stepOf = (step: number) => `step ${step}${steps === undefined ? '' : `/${steps}`}`;
  const trainer = new Trainer(model, dataset, trainingOptions(settings));
  const evaluates = trainer.data.evaluate !== undefined;
  let latest = '';
  let begun = resume;
  try {
    if (!evaluates && (settings.validation !== undefined || settings.validationShare > 0)) {
      const hint = 'a longer text, a larger --validation-share, or 0 for no evaluations';
      throw new ArgumentError(`train: the held-out text has 0 tokens; expected at least 2, one to predict from the other. Hint: ${hint}`);
    }
    const prompt = sampleEvery === undefined ? '' : await samplePrompt(dataset, tokenizer);
    const make = () => textSample(model, tokenizer, prompt, { seed, signal });
    const result = await runTraining(trainer, {
      ...{ folder: out.working, resume, signal },
      ...(evaluateEvery === undefined ? {} : { evaluateEvery }),
      ...(saveEvery === undefined ? {} : { saveEvery }),
      ...(maxMinutes === undefined ? {} : { maxSeconds: 60 * maxMinutes }),
      ...(sampleEvery === undefined ? {} : { samples: { every: sampleEvery, make } }),
      async settle() {
        begun = true;
        return out.settle();
      },
      async onBegin() {
        await writeRunFile(out.working, settings);
        if (tokenizerFolder !== null) await copyTokenizer(tokenizerFolder, out.working);
        progress.print(`${grouped(countParameters(model.parameters))} parameters, ${size}, on ${model.backend.description}`);
        if (!evaluates) progress.print('nothing is held out: the run does not evaluate');
      },
      onStep({ step, loss, learningRate }, { tokensPerSecond, secondsLeft }) {
        progress.show(
          `${stepOf(step)}  loss ${loss.toFixed(3)}${latest}  rate ${learningRate.toExponential(1)}  ` +
            `${compact(tokensPerSecond)} tok/s  ${duration(secondsLeft)} left`,
        );
      },
      onSkip: (divergence) => progress.print(`left out: ${describeDivergence(divergence)}`),
      onEvaluation({ loss }, step) {
        latest = `  held-out ${loss.toFixed(3)}`;
        progress.print(`${stepOf(step)}  held-out loss ${loss.toFixed(4)} nats a token`);
      },
    });
    progress.clear();
    if (result.interrupted) {
      process.stderr.write(`interrupted at step ${trainer.step} and saved. Go on with: elapid train --resume ${folder}\n`);
      process.exitCode = exitCodes.interrupted;
    } else {
      const peak = byteSize(model.backend.statistics().peakBytes);
      const loss = result.evaluation === undefined ? '' : `held-out loss ${result.evaluation.loss.toFixed(4)} nats a token, `;
      process.stderr.write(`done in ${duration(result.seconds)} of training: ${loss}model in ${folder} (tensors took ${peak} at most)\n`);
    }
  } catch (error) {
    throw withAdvice(error, folder, begun, training);
  } finally {
    trainer.dispose();
    model.dispose();
  }
}

/** The same error with what to type next, where that is known. @param begun whether the run has a checkpoint */
function withAdvice(error: unknown, folder: string, begun: boolean, { learningRate, onDivergence }: RunFile['training']): unknown {
  if (!(error instanceof DivergenceError)) return withFileAdvice(error, 'train', folder, begun);
  const lower = `--learning-rate ${Number((learningRate / 2).toPrecision(3))}`;
  const skip = onDivergence === 'stop' ? ', or with --on-divergence skip' : '';
  const hint = begun ? `elapid train --resume ${folder} ${lower}${skip}` : `begin again with ${lower}${skip}`;
  return new ElapidError(`${error.explanation}. Hint: ${hint}`, { cause: error });
}
