import { platform } from '#platform';
import { shardIndexName } from '../data/token-shards.js';
import { readJsonObject } from '../io/json-file.js';
import { metricsName } from '../train/metrics.js';
import { removeTemporaries } from '../train/run.js';
import { trainingCheckpointName } from '../train/training-checkpoint.js';
import { ArgumentError } from '../util/errors.js';
import { finishReplacing, replaceWith, replacementName } from './folder-replacement.js';
import { lockFolder } from './folder-lock.js';
import { exitCodes, interruption } from './options.js';
import { workOnWithoutReaders } from './streams.js';

/** How a command means to use a folder. */
export interface OutFolderUse {
  /** The command's name. */
  readonly operation: string;
  readonly folder: string;
  /** Whether what the folder holds may be replaced. */
  readonly overwrite: boolean;
  /** Whether everything is written aside, even where nothing is to be replaced: half a result is never seen. */
  readonly aside: boolean;
  /** The folder's file that `--resume` of this command reads. */
  readonly runFile?: string;
  /** Files and folders that the command reads, or will read again when it is resumed: they must not be replaced. */
  readonly reads?: readonly string[];
  /** The folder of the tokenizer that comes into the folder. */
  readonly tokenizer?: string | null;
}

/** A folder that a command may write to, and nobody else. */
export interface OutFolder {
  /** Where to write. */
  readonly working: string;
  /** Puts what was written in place of what the folder held, where it was written aside. @returns the folder */
  settle(): Promise<string>;
}

/**
 * Runs `body` with a folder to write to. What a model, a run or shards are made of is not replaced without `overwrite`; with it,
 * the folder's old content stays until `settle`.
 * @throws ArgumentError before anything is done, where the folder holds such, or another process writes to it
 * @throws FileError where it cannot be written to
 */
export async function withOutFolder<T>(use: OutFolderUse, body: (out: OutFolder) => Promise<T>): Promise<T> {
  const { operation, folder, overwrite } = use;
  const lock = await lockFolder(operation, folder);
  try {
    await cleanUp(folder);
    const content = await contentOf(use);
    if (content !== null && !overwrite) throw alreadyHolds(use, content);
    if (content !== null) await checkReads(use);
    if (content === null) await removeUnfinishedRun(use);
    if (content === null && !use.aside) return await body({ working: folder, settle: () => Promise.resolve(folder) });
    const working = platform.joinPath(folder, replacementName);
    await platform.makeFolder(working);
    const settle = async () => {
      const old = (await platform.listFolder(folder)).filter(ofModelOrRun);
      await replaceWith(folder, [...old, ...(await shardsOf(folder))]);
      return folder;
    };
    return await body({ working, settle });
  } finally {
    await platform.removeFolder(platform.joinPath(folder, replacementName)).catch(() => undefined);
    lock.release();
  }
}

/**
 * Runs a command that makes the whole of a folder: an interruption leaves the folder as it was, and is said with its exit code.
 * @param body is given the signal of the interruption
 */
export async function makingFolder(folder: string, body: (signal: AbortSignal) => Promise<void>): Promise<void> {
  workOnWithoutReaders();
  const { signal, stop } = interruption();
  try {
    await body(signal);
  } catch (error) {
    if (error !== signal.reason) throw error;
    process.stderr.write(`interrupted: nothing was written to ${folder}\n`);
    process.exitCode = exitCodes.interrupted;
  } finally {
    stop();
  }
}

/** Runs `body` while no other process writes to the folder of a run that is resumed. */
export async function withRunFolder<T>(operation: string, folder: string, body: () => Promise<T>): Promise<T> {
  if ((await platform.pathKind(folder)) !== 'folder') {
    throw new ArgumentError(`${operation}: there is no folder ${folder}. Hint: --resume takes the folder that --out named when the run began`);
  }
  const lock = await lockFolder(operation, folder);
  try {
    await cleanUp(folder);
    return await body();
  } finally {
    lock.release();
  }
}

/** Finishes, or takes back, what a process left that was killed. */
async function cleanUp(folder: string): Promise<void> {
  await finishReplacing(folder);
  await platform.removeFolder(platform.joinPath(folder, replacementName));
  await removeTemporaries(folder);
}

/** Weights, by the names that programs give them. */
const weights = /\.(safetensors|bin|pth?|ckpt|gguf|onnx|h5|msgpack|npz)$|\.index\.json$/i;

/** What a folder holds that must not be lost, in words, or null. */
async function contentOf(use: OutFolderUse): Promise<string | null> {
  const names = await platform.listFolder(use.folder);
  if (names.includes(trainingCheckpointName)) return 'a run';
  if (names.includes(shardIndexName)) return 'token shards';
  const model = names.filter((name) => name === 'config.json' || weights.test(name)).sort();
  if (model.length > 0) return `a model (${model.slice(0, 3).join(', ')}${model.length > 3 ? ', …' : ''})`;
  // A run that ended before its first checkpoint left settings and a copy of a tokenizer: nothing is lost with them.
  const unfinished = unfinishedRun.some((name) => names.includes(name));
  if (names.includes('tokenizer.json') && !unfinished && !tokenizerIsHere(use)) return 'a tokenizer (tokenizer.json)';
  return null;
}

/** Whether the folder's tokenizer is the one that comes into it. */
const tokenizerIsHere = ({ folder, tokenizer = null }: OutFolderUse): boolean =>
  tokenizer !== null && platform.absolutePath(tokenizer) === platform.absolutePath(folder);

function alreadyHolds({ operation, folder, runFile }: OutFolderUse, content: string): ArgumentError {
  const resume = content === 'a run' && runFile !== undefined ? `--resume ${folder} goes on with it; ` : '';
  return new ArgumentError(`${operation}: ${folder} already holds ${content}. Hint: ${resume}--overwrite replaces it; or name another folder`);
}

const unfinishedRun = ['run.json', 'task.json'];
const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json'];

/** Removes the files of a run that ended before its first checkpoint: they would be taken for those of the next. */
async function removeUnfinishedRun(use: OutFolderUse): Promise<void> {
  const { folder } = use;
  const names = await platform.listFolder(folder);
  if (!unfinishedRun.some((name) => names.includes(name))) return;
  for (const name of [...unfinishedRun, metricsName, ...(tokenizerIsHere(use) ? [] : tokenizerFiles)]) await platform.removeFile(platform.joinPath(folder, name));
}

const runFiles = [...unfinishedRun, metricsName, 'lengths.json', trainingCheckpointName];
const modelFiles = [
  ...['config.json', 'generation_config.json', ...tokenizerFiles, 'tokenizer.model', 'special_tokens_map.json', 'added_tokens.json'],
  ...['vocab.json', 'vocab.txt', 'merges.txt', 'chat_template.jinja', shardIndexName],
];
const modelWeights = /^(pytorch_)?model([-.].*)?\.(safetensors|bin|pth?)(\.index\.json)?$/;

/** Whether a file of this name belongs to a model or a run and would be taken for a part of the next one. Others stay. */
const ofModelOrRun = (name: string): boolean => runFiles.includes(name) || modelFiles.includes(name) || modelWeights.test(name) || /^\d{5,}\.tokens$/.test(name);

/** The shards of other names that the indexes of a folder list. */
async function shardsOf(folder: string): Promise<string[]> {
  const names = await platform.listFolder(folder);
  const shards: string[] = [];
  for (const index of names.filter((name) => name.endsWith('.index.json'))) {
    shards.push(index);
    try {
      const { weight_map: map } = (await readJsonObject(platform.joinPath(folder, index))).value;
      shards.push(...Object.values(map ?? {}).filter((name): name is string => names.includes(name as string)));
    } catch {
      // A damaged index names no shards.
    }
  }
  return shards;
}

/** @throws ArgumentError where a file that the command reads would be replaced */
async function checkReads({ operation, folder, reads = [] }: OutFolderUse): Promise<void> {
  const home = platform.absolutePath(folder);
  const lost = [...(await platform.listFolder(folder)).filter(ofModelOrRun), ...(await shardsOf(folder))];
  const replaced = [home, ...lost.map((name) => platform.joinPath(home, name))];
  const read = reads.find((path) => replaced.includes(platform.absolutePath(path)));
  if (read === undefined) return;
  throw new ArgumentError(`${operation}: --overwrite would remove ${read}, which the command reads. Hint: name another folder`);
}
