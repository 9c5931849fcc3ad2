/** Opening model checkpoints: one file or several, safetensors or PyTorch, in a folder as model hubs lay them out. */
import { platform } from '#platform';
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError, DisposedError } from '../util/errors.js';
import { openForReading, readRange } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import { parseJsonObject, type JsonObject, type JsonOptions } from './json.js';
import { readPytorchEntries } from './pytorch.js';
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors.js';
import { readShardIndex } from './shard-index.js';

/** An open checkpoint: the list of its tensors, and their bytes on request. */
export interface Checkpoint {
  /** The path it was opened by. */
  readonly name: string;
  /** The path of the config.json of its folder, whether there is one or not: for messages. */
  readonly configName: string;
  /** The parsed config.json of its folder, or undefined where there is none. Not checked: models do that. */
  readonly config: unknown;
  readonly entries: ReadonlyMap<string, CheckpointEntry>;
  /** The text pairs that safetensors files may carry; of shards, all together. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads the bytes of one tensor.
   * @throws CheckpointError when the file cannot be read; DisposedError after `close`
   */
  read(entry: CheckpointEntry): Promise<Uint8Array>;
  /** The open file of a tensor as the operating system numbers it, where the platform has such: to map it. */
  descriptor(entry: CheckpointEntry): number | undefined;
  /** Closes the files. May be called twice. */
  close(): Promise<void>;
}

const maxJsonSizeBytes = 1 << 26;

/** The files that may hold a folder's weights, best first. */
const weightFiles = ['model.safetensors', 'pytorch_model.bin'];
const indexSuffix = '.index.json';

/**
 * Opens a checkpoint and checks everything but the weights themselves, which stay in their files.
 * @param path a `.safetensors`, `.bin`, `.pth` or `.pt` file, or a folder with `model.safetensors` or
 *   `pytorch_model.bin` or the `.index.json` of one of them and its shards; a path, in the browser a URL
 * @throws CheckpointError when something is missing, damaged or contradictory
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const opened: RandomAccessFile[] = [];
  try {
    const single = isWeightFile(path) && (await platform.pathKind(path)) !== 'folder';
    return single ? await openSingle(path, opened) : await openFolder(path, opened);
  } catch (error) {
    await Promise.all(opened.map((file) => file.close()));
    throw error;
  }
}

function isWeightFile(path: string): boolean {
  return /\.(safetensors|bin|pth|pt)$/.test(path);
}

async function openSingle(path: string, opened: RandomAccessFile[]): Promise<Checkpoint> {
  const configName = path.replace(/[^/\\]*$/, 'config.json');
  const config = await readConfig(configName);
  const header = await openWeights(path, opened);
  return makeCheckpoint({ name: path, configName, config }, [header], opened);
}

async function openFolder(path: string, opened: RandomAccessFile[]): Promise<Checkpoint> {
  for (const name of weightFiles) {
    const file = platform.joinPath(path, name);
    const index = file + indexSuffix;
    const sharded = !(await isFile(file));
    if (sharded && !(await isFile(index))) continue;
    const configName = platform.joinPath(path, 'config.json');
    const config = await readConfig(configName);
    const headers = sharded ? await openShards(path, index, opened) : [await openWeights(file, opened)];
    return makeCheckpoint({ name: path, configName, config }, headers, opened);
  }
  const kind = await platform.pathKind(path);
  const problem =
    kind === undefined
      ? 'no such file or folder'
      : kind === 'file'
        ? 'the name ends in none of .safetensors, .bin, .pth and .pt, and it is not a folder'
        : `the folder has no weights; expected ${weightFiles.join(' or ')}, or either with ${indexSuffix} and its shards`;
  throw new CheckpointError(problem, { file: path });
}

async function isFile(path: string): Promise<boolean> {
  return (await platform.pathKind(path)) === 'file';
}

async function openWeights(path: string, opened: RandomAccessFile[]): Promise<SafetensorsHeader> {
  const file = await openForReading(path);
  opened.push(file);
  if (path.endsWith('.safetensors')) return readSafetensorsHeader(file);
  return { entries: await readPytorchEntries(file), metadata: {} };
}

/** Opens the shards an index names, and checks that index and shards list the same tensors. */
async function openShards(folder: string, indexPath: string, opened: RandomAccessFile[]): Promise<SafetensorsHeader[]> {
  const index = await readJson(indexPath);
  const keysOfShard = readShardIndex(index, indexPath);
  const headers: SafetensorsHeader[] = [];
  for (const [shard, keys] of keysOfShard) {
    if (!isWeightFile(shard)) throw new CheckpointError(`the shard '${shard}' is not a weight file`, { file: indexPath });
    const path = platform.joinPath(folder, shard);
    if (!(await isFile(path))) {
      const problem = `the shard is missing; ${indexPath} places ${String(keys.size)} tensors in it`;
      throw new CheckpointError(problem, { file: path });
    }
    const header = await openWeights(path, opened);
    for (const key of keys) {
      if (!header.entries.has(key)) {
        const location = { file: indexPath, key, offset: index.offsetOf('weight_map') };
        throw new CheckpointError(`the index places the tensor in '${shard}', which does not hold it`, location);
      }
    }
    for (const { key, offset } of header.entries.values()) {
      if (!keys.has(key)) {
        const problem = `the shard holds a tensor that ${indexPath} does not place in it`;
        throw new CheckpointError(problem, { file: path, key, offset });
      }
    }
    headers.push(header);
  }
  return headers;
}

function makeCheckpoint(
  what: Pick<Checkpoint, 'name' | 'configName' | 'config'>,
  headers: readonly SafetensorsHeader[],
  opened: readonly RandomAccessFile[],
): Checkpoint {
  const files = new Map(opened.map((file) => [file.name, file]));
  let closed = false;
  return {
    ...what,
    entries: new Map(headers.flatMap(({ entries }) => [...entries])),
    metadata: Object.fromEntries(headers.flatMap(({ metadata }) => Object.entries(metadata))),
    async read({ key, file: fileName, offset, sizeBytes }) {
      if (closed) throw new DisposedError(`Checkpoint.read: ${what.name} is closed; expected it open to read '${key}'`);
      const file = files.get(fileName);
      if (file === undefined) {
        throw new CheckpointError(`the tensor belongs to another checkpoint than ${what.name}`, { file: fileName, key, offset });
      }
      return readRange(file, offset, sizeBytes, 'the tensor', key);
    },
    descriptor: ({ file }) => (closed ? undefined : files.get(file)?.descriptor),
    async close() {
      if (closed) return;
      closed = true;
      await Promise.all(opened.map((file) => file.close()));
    },
  };
}

async function readConfig(path: string): Promise<unknown> {
  return (await isFile(path)) ? (await readJson(path, { pythonFloats: true })).value : undefined;
}

async function readJson(path: string, options?: JsonOptions): Promise<JsonObject> {
  const file = await openForReading(path);
  try {
    if (file.sizeBytes > maxJsonSizeBytes) {
      const got = `${String(file.sizeBytes)} bytes long`;
      throw new CheckpointError(`the JSON file is ${got}; expected at most ${String(maxJsonSizeBytes)}`, { file: path });
    }
    return parseJsonObject(await readRange(file, 0, file.sizeBytes, 'the JSON text'), path, options);
  } finally {
    await file.close();
  }
}
