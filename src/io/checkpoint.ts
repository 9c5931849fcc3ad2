/** Opening model checkpoints: one file or several, safetensors, PyTorch or GGUF, in a folder as model hubs lay them out. */
import { platform } from '#platform';
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError, DisposedError } from '../util/errors.js';
import { openForReading, refuseForeignContent } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import { readGgufCheckpoint } from './gguf/gguf-checkpoint.js';
import { readJsonObject } from './json-file.js';
import { describeMissing } from './missing-path.js';
import { readPytorchEntries } from './pytorch.js';
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors.js';
import { readShardIndex } from './shard-index.js';
import { TensorReader } from './tensor-reader.js';

/** How `openCheckpoint` opens. */
export interface CheckpointOptions {
  /**
   * Whether files may be mapped into memory instead of read. A mapped file costs nothing to open, and processes share its memory. But when
   * another program overwrites it in place, the values change under way; when it cuts the file, the backend fails with a CheckpointError at
   * the first use of what is gone. Programs that replace files by renaming, as this package does, are harmless. false: files are read.
   * Default: those below 64 MiB are read, others mapped.
   */
  readonly mapped?: boolean | undefined;
  /**
   * Whether tensors are compared with the checksums that the file holds: `elapid`'s own safetensors, and torch.save's archives. Default:
   * those that are read are, those that are mapped are not, and a file without checksums passes. true: all are, and a file without is an
   * error. false: none is.
   */
  readonly verify?: boolean | undefined;
}

/** An open checkpoint: the list of its tensors, and their bytes on request. */
export interface Checkpoint {
  /** The path it was opened by. */
  readonly name: string;
  /** The path of the config.json of its folder, whether there is one or not, and of a GGUF file its own: for messages. */
  readonly configName: string;
  /** The parsed config.json of its folder, or undefined where there is none; of a GGUF file what its metadata say. Not checked: models do that. */
  readonly config: unknown;
  readonly entries: ReadonlyMap<string, CheckpointEntry>;
  /** The text pairs that safetensors files may carry; of shards, all together. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What indexes list that no shard holds: the index's and the shard's file by the tensor's key. A tied head may be among it. */
  readonly absent: ReadonlyMap<string, { readonly index: string; readonly shard: string }>;
  /**
   * Reads the bytes of one tensor, row by row, and compares them with their checksum, unless the options say not to.
   * @throws CheckpointError when the file cannot be read or is damaged; DisposedError after `close`
   */
  read(entry: CheckpointEntry): Promise<Uint8Array>;
  /**
   * The open file of a tensor as the operating system numbers it: to map it. undefined where it is to be read instead: by the options,
   * by the platform, or because the tensor does not lie row by row.
   * @throws CheckpointError when the options ask to verify, and it is damaged or has no checksum
   */
  descriptor(entry: CheckpointEntry): Promise<number | undefined>;
  /**
   * Compares all tensors with their checksums, whatever the options say.
   * @throws CheckpointError when one is damaged or has no checksum
   */
  verify(): Promise<void>;
  /** Names the version of its files: where they are, their sizes and when they were last written; undefined where nobody tells. */
  readonly stamp: string | undefined;
  /**
   * To be asked when everything has been read or mapped.
   * @throws CheckpointError when a file was cut or written to since it was opened
   */
  expectUnchanged(): Promise<void>;
  /** Closes the files. May be called twice. */
  close(): Promise<void>;
}

/**
 * A file below this is read, not mapped, unless asked for: that takes some hundredths of a second, and what another program does to the
 * file later cannot matter.
 */
const mappedFrom = 1 << 26;

/** The files that may hold a folder's weights, best first. */
const weightFiles = ['model.safetensors', 'pytorch_model.bin'];
const indexSuffix = '.index.json';

/**
 * Opens a checkpoint and checks everything but the weights themselves, which stay in their files.
 * @param path a `.safetensors`, `.bin`, `.pth`, `.pt` or `.gguf` file, or a folder with `model.safetensors` or
 *   `pytorch_model.bin` or the `.index.json` of one of them and its shards; a path, in the browser a URL
 * @throws CheckpointError when something is missing, damaged or contradictory
 */
export async function openCheckpoint(path: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
  const opening: Opening = { options, opened: [], reader: new TensorReader(options.verify) };
  try {
    const named = isWeightFile(path) || isGguf(path);
    const single = named && (await platform.pathKind(path)) !== 'folder';
    if (single && isGguf(path)) return await openGguf(path, opening);
    return single ? await openSingle(path, opening) : await openFolder(path, opening);
  } catch (error) {
    await Promise.all(opening.opened.map((file) => file.close()));
    throw error;
  }
}

/** What is known while a checkpoint is being opened. */
interface Opening {
  readonly options: CheckpointOptions;
  /** The files opened so far. */
  readonly opened: RandomAccessFile[];
  readonly reader: TensorReader;
}

/** Tensors of one file or of all shards. */
type Content = Pick<Checkpoint, 'entries' | 'metadata' | 'absent'>;

function isWeightFile(path: string): boolean {
  return /\.(safetensors|bin|pth|pt)$/.test(path);
}

/** Whether a path is that of a GGUF file, by its name. */
export const isGguf = (path: string): boolean => path.endsWith('.gguf');

async function openGguf(path: string, opening: Opening): Promise<Checkpoint> {
  const file = await openForReading(path);
  opening.opened.push(file);
  const { config, entries } = await readGgufCheckpoint(file);
  return makeCheckpoint({ name: path, configName: path, config, entries, metadata: {}, absent: new Map() }, opening);
}

async function openSingle(path: string, opening: Opening): Promise<Checkpoint> {
  const configName = path.replace(/[^/\\]*$/, 'config.json');
  const config = await readConfig(configName);
  const { entries, metadata } = await openWeights(path, opening);
  return makeCheckpoint({ name: path, configName, config, entries, metadata, absent: new Map() }, opening);
}

async function openFolder(path: string, opening: Opening): Promise<Checkpoint> {
  for (const name of weightFiles) {
    const file = platform.joinPath(path, name);
    const index = file + indexSuffix;
    const sharded = !(await isFile(file));
    if (sharded && !(await isFile(index))) continue;
    const configName = platform.joinPath(path, 'config.json');
    const config = await readConfig(configName);
    const content: Content = sharded ? await openShards(path, index, opening) : { ...(await openWeights(file, opening)), absent: new Map() };
    return makeCheckpoint({ name: path, configName, config, ...content }, opening);
  }
  const kind = await platform.pathKind(path);
  const problem =
    kind === undefined
      ? await describeMissing(path)
      : kind === 'file'
        ? await describeOtherFile(path)
        : `the folder has no weights; expected ${weightFiles.join(' or ')}, or either with ${indexSuffix} and its shards${await describeOtherWeights(path)}`;
  throw new CheckpointError(problem, { file: path });
}

/** What to say of a file that has no weights' name. */
async function describeOtherFile(path: string): Promise<string> {
  const file = await openForReading(path);
  try {
    await refuseForeignContent(file);
  } finally {
    await file.close();
  }
  return 'the name ends in none of .safetensors, .bin, .pth, .pt and .gguf, and it is not a folder';
}

/** A hint at what else is in a folder that could have been meant, or nothing. */
async function describeOtherWeights(folder: string): Promise<string> {
  const names = await platform.listFolder(folder).catch((): string[] => []);
  if (names.includes('snapshots')) return '. Hint: this is a folder of the hub’s cache; the model is in snapshots/<revision>';
  const near = names.filter((name) => /\.(safetensors?|bin|pth?|gguf)$|safetensor|pytorch_model/.test(name)).sort();
  return near.length === 0 ? '' : `. Hint: it has ${near.slice(0, 3).join(', ')}; rename the file, or give its path, if it ends in .safetensors, .bin, .pth, .pt or .gguf`;
}

async function isFile(path: string): Promise<boolean> {
  return (await platform.pathKind(path)) === 'file';
}

async function openWeights(path: string, { options, opened }: Opening): Promise<SafetensorsHeader> {
  const file = await openForReading(path);
  opened.push(file);
  await refuseForeignContent(file);
  const verify = options.verify !== false;
  if (path.endsWith('.safetensors')) return readSafetensorsHeader(file, verify);
  return { entries: await readPytorchEntries(file, verify), metadata: {} };
}

/**
 * Opens the shards an index names. What the shards hold is what counts, as for transformers, which takes only their names from the
 * index: a tensor may be in another shard than the index says, or not be listed at all.
 */
async function openShards(folder: string, indexPath: string, opening: Opening): Promise<Content> {
  const index = await readJsonObject(indexPath);
  const keysOfShard = readShardIndex(index, indexPath);
  const headers: SafetensorsHeader[] = [];
  for (const [shard, keys] of keysOfShard) {
    if (!isWeightFile(shard)) throw new CheckpointError(`the shard '${shard}' is not a weight file`, { file: indexPath });
    const path = platform.joinPath(folder, shard);
    if (!(await isFile(path))) {
      const problem = `the shard is missing; ${indexPath} places ${keys.size} tensors in it. Hint: download it too.`;
      throw new CheckpointError(problem, { file: path });
    }
    headers.push(await openWeights(path, opening));
  }
  const entries = new Map<string, CheckpointEntry>();
  for (const header of headers) {
    for (const entry of header.entries.values()) {
      const other = entries.get(entry.key);
      if (other !== undefined) await expectSame(other, entry, opening);
      entries.set(entry.key, other ?? entry);
    }
  }
  const absent = [...keysOfShard].flatMap(([shard, keys]) =>
    [...keys].filter((key) => !entries.has(key)).map((key) => [key, { index: indexPath, shard }] as const),
  );
  return { entries, metadata: Object.fromEntries(headers.flatMap(({ metadata }) => Object.entries(metadata))), absent: new Map(absent) };
}

/** A tensor that two shards hold must be the same in both. */
async function expectSame(one: CheckpointEntry, other: CheckpointEntry, { opened, reader }: Opening): Promise<void> {
  const read = (entry: CheckpointEntry) => reader.read(opened.find(({ name }) => name === entry.file) as RandomAccessFile, entry);
  if (one.dtype === other.dtype && one.shape.join() === other.shape.join()) {
    const [bytes, others] = [await read(one), await read(other)];
    if (bytes.every((byte, i) => byte === others[i])) return;
  }
  const { file, key, offset } = other;
  throw new CheckpointError(`the tensor is in ${one.file} as well, and differs there; expected it once, or twice the same`, { file, key, offset });
}

function makeCheckpoint(what: Pick<Checkpoint, 'name' | 'configName' | 'config'> & Content, { options, opened, reader }: Opening): Checkpoint {
  const files = new Map(opened.map((file) => [file.name, file]));
  let closed = false;
  const fileOf = ({ key, file: name, offset }: CheckpointEntry): RandomAccessFile => {
    if (closed) throw new DisposedError(`Checkpoint.read: ${what.name} is closed; expected it open to read '${key}'`);
    const file = files.get(name);
    if (file === undefined) throw new CheckpointError(`the tensor belongs to another checkpoint than ${what.name}`, { file: name, key, offset });
    return file;
  };
  return {
    ...what,
    stamp: opened.every(({ stamp }) => stamp !== undefined) ? opened.map(({ stamp }) => stamp).join('\n') : undefined,
    read: async (entry) => reader.read(fileOf(entry), entry),
    async descriptor(entry) {
      const file = fileOf(entry);
      const mapped = options.mapped ?? file.sizeBytes >= mappedFrom;
      if (!mapped || entry.strides !== undefined || entry.stored !== undefined || file.descriptor === undefined) return undefined;
      if (options.verify === true) await reader.expectSound(file, entry);
      return file.descriptor;
    },
    async verify() {
      const all = new TensorReader(true);
      for (const entry of what.entries.values()) await all.expectSound(fileOf(entry), entry);
    },
    async expectUnchanged() {
      for (const file of opened) {
        const change = await file.changed();
        if (change === undefined) continue;
        throw new CheckpointError(`the file changed while it was loaded: ${change}. Hint: load it when the program that writes it has ended.`, { file: file.name });
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      await Promise.all(opened.map((file) => file.close()));
    },
  };
}

async function readConfig(path: string): Promise<unknown> {
  return (await isFile(path)) ? (await readJsonObject(path, { pythonFloats: true })).value : undefined;
}
