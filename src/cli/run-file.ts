import { platform } from '#platform';
import * as v from 'valibot';
import { CheckpointError } from '../util/errors.js';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const real = v.pipe(v.number(), v.finite());

const runSchema = v.strictObject({
  /** One file or folder, or several files. */
  text: v.union([v.string(), v.array(v.string())]),
  documentSeparator: v.optional(v.string()),
  textField: v.optional(v.string()),
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
  }),
  validationShare: real,
  evaluateEvery: positive,
  saveEvery: positive,
});

/** What `elapid train` was asked for: kept in the run's folder, so that `--resume` needs nothing but the folder. */
export type RunFile = v.InferOutput<typeof runSchema>;

const name = 'run.json';

/** Writes a run's settings to its folder. */
export async function writeRunFile(folder: string, run: RunFile): Promise<void> {
  await platform.makeFolder(folder);
  const text = `${JSON.stringify(run, null, 2)}\n`;
  await platform.writeFileAtomically(platform.joinPath(folder, name), [new TextEncoder().encode(text)]);
}

/**
 * Reads a run's settings.
 * @throws CheckpointError when the folder has none, or they are damaged
 */
export async function readRunFile(folder: string): Promise<RunFile> {
  const file = platform.joinPath(folder, name);
  if ((await platform.pathKind(file)) !== 'file') {
    throw new CheckpointError('is missing; expected a folder that elapid train --out made', { file });
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(await platform.readFile(file)));
  } catch (cause) {
    throw new CheckpointError('is not JSON', { file }, { cause });
  }
  const parsed = v.safeParse(runSchema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new CheckpointError(`is ${issue.received}; expected ${issue.expected ?? 'another value'}`, {
    file,
    key: v.getDotPath(issue) ?? '(root)',
  });
}
