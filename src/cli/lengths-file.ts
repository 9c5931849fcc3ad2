import * as v from 'valibot';
import type { LengthAccuracy } from '../tasks/index.js';
import { readSettings, writeSettings } from './run-file.js';

const name = 'lengths.json';
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const schema = v.array(v.strictObject({ length: count, accuracy: share, examples: count }));

/** Writes how well induction works at each length to the run's folder. */
export const writeLengths = (folder: string, lengths: readonly LengthAccuracy[]): Promise<void> => writeSettings(folder, name, lengths);

/**
 * Reads what `writeLengths` wrote.
 * @throws CheckpointError when the folder has no such file, or it is damaged
 */
export const readLengths = (folder: string): Promise<readonly LengthAccuracy[]> =>
  readSettings(folder, name, schema, 'a finished elapid task induction-heads');
