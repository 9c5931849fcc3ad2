/** The index file of a checkpoint in several files: `{"weight_map": {"<tensor>": "<file>"}}`. */
import { CheckpointError } from '../util/errors.js';
import type { JsonObject } from './json.js';
import { brief } from './validate.js';

/**
 * Letters, digits, dot, underscore and hyphen, not starting with a dot: a name that stays in its folder as a path and
 * means only itself in a URL.
 */
const plainFileName = /^[\w-][\w.-]*$/;

/**
 * Lists the tensors of each shard.
 * @param file the index file's path, for messages
 * @throws CheckpointError when `weight_map` is missing or malformed, or a shard's name is not a plain file name
 */
export function readShardIndex(index: JsonObject, file: string): ReadonlyMap<string, ReadonlySet<string>> {
  const offset = index.offsetOf('weight_map');
  const map = index.value['weight_map'];
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new CheckpointError(`weight_map is ${brief(map)}; expected an object of file names`, { file, offset });
  }
  const keysOfShard = new Map<string, Set<string>>();
  for (const [key, shard] of Object.entries(map as Record<string, unknown>)) {
    if (typeof shard !== 'string' || !plainFileName.test(shard)) {
      throw new CheckpointError(
        `the shard is ${brief(shard)}; expected a plain file name in the same folder (letters, digits, '.', '_', '-')`,
        { file, key, offset },
      );
    }
    const keys = keysOfShard.get(shard);
    if (keys === undefined) keysOfShard.set(shard, new Set([key]));
    else keys.add(key);
  }
  return keysOfShard;
}
