import { platform } from '#platform';
import * as v from 'valibot';
import type { LengthAccuracy } from '../tasks/index.js';
import { CheckpointError } from '../util/errors.js';

const name = 'lengths.json';
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const schema = v.array(v.strictObject({ length: count, accuracy: share, examples: count }));

/** Writes how well induction works at each length to the run's folder. */
export async function writeLengths(folder: string, lengths: readonly LengthAccuracy[]): Promise<void> {
  const text = `[\n${lengths.map((one) => `  ${JSON.stringify(one)}`).join(',\n')}\n]\n`;
  await platform.writeFileAtomically(platform.joinPath(folder, name), [new TextEncoder().encode(text)]);
}

/**
 * Reads what `writeLengths` wrote.
 * @throws CheckpointError when the folder has no such file, or it is damaged
 */
export async function readLengths(folder: string): Promise<readonly LengthAccuracy[]> {
  const file = platform.joinPath(folder, name);
  if ((await platform.pathKind(file)) !== 'file') {
    throw new CheckpointError('is missing; expected the folder of a finished run of elapid task induction-heads', { file });
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
  throw new CheckpointError(`is ${issue.received}; expected ${issue.expected ?? 'another value'}`, { file, key: v.getDotPath(issue) ?? '(root)' });
}
