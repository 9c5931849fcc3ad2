import { platform } from '#platform';
import * as v from 'valibot';
import { taskNames } from '../tasks/index.js';
import { trainingCheckpointName } from '../train/index.js';
import { ArgumentError, CheckpointError } from '../util/errors.js';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const real = v.pipe(v.number(), v.finite());

const runSchema = v.strictObject({
  /** One file or folder, or several files. */
  text: v.union([v.string(), v.array(v.string())]),
  documentSeparator: v.exactOptional(v.string()),
  textField: v.exactOptional(v.string()),
  validation: v.optional(v.string()),
  tokenizer: v.nullable(v.string()),
  model: v.strictObject({ dModel: positive, layers: positive, dState: positive, dConv: positive, expand: positive }),
  training: v.strictObject({
    steps: positive,
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
  }),
  validationShare: real,
  evaluateEvery: positive,
  saveEvery: positive,
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

const taskSchema = v.strictObject({
  task: v.picklist(taskNames),
  ssm: v.picklist(['s6', 'lti']),
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
    throw new CheckpointError(`is missing; expected a folder that ${command} --out made`, { file });
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(await platform.readFile(file)));
  } catch (cause) {
    throw new CheckpointError('is not JSON', { file }, { cause });
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new CheckpointError(`is ${issue.received}; expected ${issue.expected ?? 'another value'}`, {
    file,
    key: v.getDotPath(issue) ?? '(root)',
  });
}

/**
 * Sees to it that a new run overwrites none, and that a resumed one has something to go on from.
 * @throws ArgumentError when the folder's training checkpoint is there and should not be, or the other way round
 */
export async function checkRunFolder(operation: string, folder: string, resume: boolean): Promise<void> {
  const begun = (await platform.pathKind(platform.joinPath(folder, trainingCheckpointName))) !== undefined;
  if (!resume && begun) {
    throw new ArgumentError(`${operation}: ${folder} already holds a run. Hint: --resume ${folder}, or another folder, or delete it`);
  }
  if (resume && !begun) {
    throw new ArgumentError(`${operation}: ${folder} has no checkpoint yet: the run ended before its first. Hint: begin it again`);
  }
}
