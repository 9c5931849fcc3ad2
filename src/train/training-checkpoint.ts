import { platform } from '#platform';
import * as v from 'valibot';
import { checksummedChunks, openCheckpoint, toFloat32, type Checkpoint } from '../io/index.js';
import { float32Source } from '../models/tensor-source.js';
import type { StagedFile } from '../platform/platform.js';
import type { Tensor } from '../tensor/index.js';
import { CheckpointError } from '../util/errors.js';
import type { Trainable } from './objective.js';
import type { FlatAdamW } from './optimiser.js';
import type { Trainer } from './trainer.js';

/** The file of a run's folder that holds everything a run goes on from. */
export const trainingCheckpointName = 'training.safetensors';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

const progressSchema = v.object({
  kind: v.literal('elapid-training'),
  step: v.pipe(v.string(), v.regex(/^\d+$/)),
  seconds: v.string(),
  sampler: v.pipe(v.string(), v.parseJson(), v.looseObject({})),
  text: v.string(),
  progress: v.pipe(
    v.string(),
    v.parseJson(),
    v.object({
      skipped: count,
      skippedInARow: count,
      recentLosses: v.array(v.number()),
      lossScale: v.nullable(v.object({ value: v.pipe(v.number(), v.minValue(1)), goodSteps: count })),
    }),
  ),
});

/**
 * Writes weights, moments, the carried state, the step and the position in the data as one file, replaced at once or not at all: a run that
 * is killed at any moment goes on from the last one.
 * @param seconds time spent training so far
 */
export async function saveTraining<M extends Trainable, B>(trainer: Trainer<M, B>, path: string, seconds: number): Promise<void> {
  const staged = await stageTraining(trainer, path, seconds);
  await staged.place();
}

/** The file of `saveTraining`, whole beside its place: for who has more files that belong to it. */
export function stageTraining<M extends Trainable, B>(trainer: Trainer<M, B>, path: string, seconds: number): Promise<StagedFile> {
  return trainer.inTurn('saveTraining', () => stage(trainer, path, seconds));
}

async function stage<M extends Trainable, B>(trainer: Trainer<M, B>, path: string, seconds: number): Promise<StagedFile> {
  const moments = trainer.optimiser.moments();
  const named = tensorsOf(trainer, moments);
  try {
    const sources = [];
    for (const [key, value] of named) sources.push(await float32Source(key, value));
    const metadata = {
      kind: 'elapid-training',
      step: String(trainer.step),
      seconds: String(seconds),
      sampler: JSON.stringify(trainer.data.source.state()),
      text: trainer.data.fingerprint,
      progress: JSON.stringify(trainer.progress()),
    };
    return await platform.stageFile(path, await checksummedChunks(sources, metadata));
  } finally {
    disposeMoments(moments);
  }
}

/**
 * Puts a trainer of the same model, text and options where `saveTraining` left off.
 * @returns the seconds spent training before
 * @throws CheckpointError when the file is damaged, or was made with another model, text or batches; the trainer is then
 *   as it was before
 */
export function restoreTraining<M extends Trainable, B>(trainer: Trainer<M, B>, path: string): Promise<number> {
  return trainer.inTurn('restoreTraining', () => restore(trainer, path));
}

async function restore<M extends Trainable, B>(trainer: Trainer<M, B>, path: string): Promise<number> {
  const checkpoint = await openCheckpoint(path);
  const moments = trainer.optimiser.moments();
  try {
    const parsed = v.safeParse(progressSchema, checkpoint.metadata);
    if (!parsed.success) {
      throw new CheckpointError('is not a training checkpoint of elapid', { file: path, key: '__metadata__' });
    }
    const { step, seconds, sampler, text, progress } = parsed.output;
    if (text !== trainer.data.fingerprint) {
      throw new CheckpointError('was made with another text. Hint: resume with the text, tokenizer and split it began with', { file: path });
    }
    // Everything is read before anything changes: a damaged file leaves the trainer as it was.
    const expected = tensorsOf(trainer, moments);
    const expectedKeys = new Set(expected.map(([key]) => key));
    const writes: [Tensor, Float32Array][] = [];
    for (const [key, tensor] of expected) writes.push([tensor, await read(checkpoint, key, tensor)]);
    const more = [...checkpoint.entries.values()].find(({ key }) => !expectedKeys.has(key));
    if (more !== undefined) {
      throw new CheckpointError('is no weight or moment of this model', { file: path, key: more.key, offset: more.offset });
    }
    restoreSource(trainer, sampler, path);
    for (const [tensor, values] of writes) tensor.write(values);
    trainer.restoreProgress(Number(step), progress);
    return Number(seconds);
  } finally {
    disposeMoments(moments);
    await checkpoint.close();
  }
}

type Moments = ReturnType<FlatAdamW['moments']>;

/** Every tensor that a run goes on from, by its key in the file. */
function tensorsOf<M extends Trainable, B>({ model, carried }: Trainer<M, B>, moments: Moments): [string, Tensor][] {
  const named: [string, Tensor][] = model.parameters.map(({ key, tensor }) => [`weight.${key}`, tensor]);
  for (const { key, first, second } of moments) named.push([`first.${key}`, first], [`second.${key}`, second]);
  for (const [key, tensor] of carried?.named() ?? []) if (tensor.size > 0) named.push([`state.${key}`, tensor]);
  return named;
}

function restoreSource<M extends Trainable, B>({ data }: Trainer<M, B>, state: object, file: string): void {
  try {
    data.source.restore(state);
  } catch (cause) {
    throw new CheckpointError(cause instanceof Error ? cause.message : String(cause), { file, key: '__metadata__' }, { cause });
  }
}

async function read(checkpoint: Checkpoint, key: string, expected: Tensor): Promise<Float32Array> {
  const entry = checkpoint.entries.get(key);
  if (entry?.dtype !== 'F32' || entry.shape.join() !== expected.shape.join()) {
    const got = entry === undefined ? 'missing' : `${entry.dtype} [${entry.shape.join(',')}]`;
    throw new CheckpointError(`is ${got}; expected F32 [${expected.shape.join(',')}] for this model`, { file: checkpoint.name, key });
  }
  return toFloat32(await checkpoint.read(entry), 'F32');
}

function disposeMoments(moments: Moments): void {
  for (const { first, second } of moments) {
    first.dispose();
    second.dispose();
  }
}
