import { platform } from '#platform';
import { shardIndexName } from '../data/token-shards.js';
import { ArgumentError } from '../util/errors.js';

/** What the names of files of text end in. */
const textEnding = /\.(txt|text|md|jsonl|ndjson)$/i;
const textEndings = '.txt, .text, .md, .jsonl or .ndjson';

/** Whether a folder holds token shards, finished or not. */
export async function isShards(path: string): Promise<boolean> {
  if ((await platform.pathKind(path)) !== 'folder') return false;
  return (await platform.listFolder(path)).some((name) => name === shardIndexName || name.endsWith('.tokens'));
}

/** Whether a path is a file of text by its name, or a folder that holds one. */
export async function isText(path: string): Promise<boolean> {
  const kind = await platform.pathKind(path);
  return kind === 'folder' ? (await platform.listFolder(path)).some((name) => textEnding.test(name)) : kind === 'file' && textEnding.test(path);
}

/**
 * The files that `paths` name: of a folder, the files of text in it, by name; not those of its folders.
 * @param operation what needs them, for messages
 * @throws ArgumentError where a folder holds none, or holds token shards
 */
export async function expandTexts(operation: string, paths: readonly string[]): Promise<readonly string[]> {
  const files: string[] = [];
  for (const path of paths) files.push(...((await platform.pathKind(path)) === 'folder' ? await textsOf(operation, path) : [path]));
  return files;
}

async function textsOf(operation: string, folder: string): Promise<string[]> {
  const fail = (got: string, hint: string) =>
    new ArgumentError({ operation, argument: folder, expected: `a file of text, or a folder of ${textEndings} files`, got, hint });
  if (await isShards(folder)) throw fail('a folder of token shards', 'elapid train takes one such folder, and nothing beside it');
  const names = (await platform.listFolder(folder)).filter((name) => !name.startsWith('.')).sort();
  const texts: string[] = [];
  for (const name of names.filter((one) => textEnding.test(one))) {
    const path = platform.joinPath(folder, name);
    if ((await platform.pathKind(path)) === 'file') texts.push(path);
  }
  if (texts.length > 0) return texts;
  const more = names.length > 5 ? ` and ${names.length - 5} more` : '';
  throw fail(names.length === 0 ? 'an empty folder' : `a folder that holds ${names.slice(0, 5).join(', ')}${more}`, 'files can be named one by one, whatever their names end in');
}
