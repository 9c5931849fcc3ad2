import { platform } from '#platform';
import * as v from 'valibot';
import { readJsonFile } from '../io/json-file.js';
import { taskLayers, taskNames } from '../tasks/index.js';
import { trainingCheckpointName } from '../train/training-checkpoint.js';
import { ArgumentError, CheckpointError } from '../util/errors.js';
import { checked } from '../util/schema.js';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const real = v.pipe(v.number(), v.finite());

/** Options of a family by its own names. */
const familyOptions = v.record(v.string(), v.union([v.number(), v.boolean(), v.string()]));

const runSchema = v.strictObject({
  /** Where the run's folder was when this was written: what has moved along with it is found by it. */
  folder: v.exactOptional(v.string()),
  /** One file or folder, or several files; absolute paths, but in files of earlier versions. */
  text: v.union([v.string(), v.array(v.string())]),
  documentSeparator: v.exactOptional(v.string()),
  textField: v.exactOptional(v.string()),
  validation: v.optional(v.string()),
  tokenizer: v.nullable(v.string()),
  /** `family` is left out of runs of the default family, and sizes that were not asked for: they are the family's. */
  model: v.union([
    v.strictObject({ family: v.exactOptional(v.string()), size: v.string(), set: v.exactOptional(familyOptions) }),
    v.strictObject({
      ...{ family: v.exactOptional(v.string()), dModel: positive, layers: positive },
      ...{ dState: v.exactOptional(positive), dConv: v.exactOptional(positive), expand: v.exactOptional(positive) },
      set: v.exactOptional(familyOptions),
    }),
  ]),
  training: v.strictObject({
    /** None: `maxMinutes` ends the run. */
    steps: v.exactOptional(positive),
    maxMinutes: v.exactOptional(real),
    batchSize: positive,
    length: positive,
    accumulation: positive,
    learningRate: real,
    warmupSteps: count,
    finalFraction: real,
    weightDecay: real,
    maxGradientNorm: real,
    seed: count,
    onDivergence: v.picklist(['stop', 'skip']),
    recompute: v.exactOptional(v.boolean()),
  }),
  validationShare: real,
  /** None: each tenth of the run. */
  evaluateEvery: v.exactOptional(positive),
  saveEvery: v.exactOptional(positive),
  sampleEvery: v.optional(positive),
});

/** What `elapid train` was asked for: kept in the run's folder, so that `--resume` needs nothing but the folder. */
export type RunFile = v.InferOutput<typeof runSchema>;

/** Writes a run's settings to its folder. */
export const writeRunFile = (folder: string, run: RunFile): Promise<void> => writeSettings(folder, 'run.json', run);

/**
 * Reads a run's settings.
 * @throws CheckpointError when the folder has none, or they are damaged
 */
export const readRunFile = (folder: string): Promise<RunFile> => readSettings(folder, 'run.json', runSchema, 'elapid train');

/**
 * The settings of a run as they are from this working folder, wherever its folder and what it reads have moved together. It has a
 * tokenizer of its own.
 * @throws ArgumentError naming what is not there
 */
export async function located(run: RunFile, folder: string): Promise<RunFile> {
  const home = platform.absolutePath(folder);
  const find = async (path: string): Promise<string> => {
    const places = placesOf(path, home, run.folder);
    for (const place of places) if ((await platform.pathKind(place)) !== undefined) return place;
    const file = platform.joinPath(folder, 'run.json');
    throw new ArgumentError(`train: the run reads ${places[0] ?? path}, which is not there. Hint: put it back, or write where it is to ${file}`);
  };
  const { text, validation, tokenizer } = run;
  const ownTokenizer = (await platform.pathKind(platform.joinPath(home, 'tokenizer.json'))) === 'file';
  return {
    ...run,
    folder: home,
    text: typeof text === 'string' ? await find(text) : await Promise.all(text.map(find)),
    ...(validation === undefined ? {} : { validation: await find(validation) }),
    tokenizer: tokenizer === null ? null : ownTokenizer ? home : await find(tokenizer),
  };
}

/** Where a path of a run's settings may lead, likeliest first. */
function placesOf(path: string, home: string, before: string | undefined): string[] {
  const absolute = platform.absolutePath(path);
  if (before === home) return [absolute];
  if (before !== undefined) return [platform.absolutePath(platform.relativePath(before, absolute), home), absolute];
  // Earlier versions kept paths as they were typed, mostly in a folder above that of the run.
  const places = [absolute];
  for (let at = home, above = ''; at !== above; [above, at] = [at, platform.absolutePath('..', at)]) places.push(platform.absolutePath(path, at));
  return places;
}

const taskSchema = v.strictObject({
  task: v.picklist(taskNames),
  ssm: v.picklist(taskLayers),
  sizes: v.strictObject({
    length: positive,
    tokens: positive,
    steps: positive,
    batchSize: positive,
    learningRate: real,
    constantRate: v.boolean(),
    testLength: positive,
  }),
  examples: positive,
  seed: count,
});

/** What `elapid task` was asked for. */
export type TaskFile = v.InferOutput<typeof taskSchema>;

/** Writes a task run's settings to its folder. */
export const writeTaskFile = (folder: string, run: TaskFile): Promise<void> => writeSettings(folder, 'task.json', run);

/**
 * Reads a task run's settings.
 * @throws CheckpointError when the folder has none, or they are damaged
 */
export const readTaskFile = (folder: string): Promise<TaskFile> => readSettings(folder, 'task.json', taskSchema, 'elapid task');

/** Whether a folder is that of a run of `elapid task`. */
export const isTaskRun = async (folder: string): Promise<boolean> =>
  (await platform.pathKind(platform.joinPath(folder, 'task.json'))) === 'file';

/** Writes a file of JSON to a run's folder. */
export async function writeSettings(folder: string, name: string, settings: object): Promise<void> {
  await platform.makeFolder(folder);
  const text = `${JSON.stringify(settings, null, 2)}\n`;
  await platform.writeFileAtomically(platform.joinPath(folder, name), [new TextEncoder().encode(text)]);
}

/**
 * Reads a file of JSON from a run's folder.
 * @param command what makes it
 * @throws CheckpointError when the folder has no such file, or it is damaged
 */
export async function readSettings<const S extends v.GenericSchema>(
  folder: string,
  name: string,
  schema: S,
  command: string,
): Promise<v.InferOutput<S>> {
  const file = platform.joinPath(folder, name);
  if ((await platform.pathKind(file)) !== 'file') {
    throw new CheckpointError(`is missing; expected a folder that ${command} made`, { file });
  }
  return checked(schema, (await readJsonFile(file)).value, { file });
}

/**
 * Sees to it that a run that is resumed has something to go on from.
 * @throws ArgumentError where it has not
 */
export async function checkBegun(operation: string, folder: string): Promise<void> {
  if ((await platform.pathKind(platform.joinPath(folder, trainingCheckpointName))) !== undefined) return;
  throw new ArgumentError(`${operation}: ${folder} has no checkpoint yet: the run ended before its first. Hint: begin it again`);
}
