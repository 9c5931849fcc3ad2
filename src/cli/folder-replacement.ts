import { platform } from '#platform';
import * as v from 'valibot';
import { readJsonFile } from '../io/json-file.js';
import { checked } from '../util/schema.js';

/**
 * How a folder's content is replaced by another, of several files, so that a kill leaves the old or the new:
 *
 * 1. the new files are written to the subfolder `.elapid-new`;
 * 2. when they are whole, a list of what is to go is put beside them, and the subfolder is renamed to `.elapid-replacing`: from this
 *    moment on the new content is what counts;
 * 3. the files that make a folder a model or shards go first, then all others that are to go, then the new ones come, those that
 *    make it a model last. For this moment no loader takes the folder for anything;
 * 4. the subfolder is removed.
 *
 * `finishReplacing` does steps 3 and 4, however often, wherever a kill interrupted them.
 */
export const replacementName = '.elapid-new';
const commitName = '.elapid-replacing';
const listName = '.list.json';
const listSchema = v.object({ remove: v.array(v.string()) });

/** The files by which loaders know a folder. */
const keyFiles = ['config.json', 'tokens.json'];

/** Puts the files of the folder's `.elapid-new` in place of those named. */
export async function replaceWith(folder: string, old: readonly string[]): Promise<void> {
  const source = platform.joinPath(folder, replacementName);
  const names = await platform.listFolder(source);
  const list = { remove: old.filter((name) => !names.includes(name)) };
  await platform.writeFileAtomically(platform.joinPath(source, listName), [new TextEncoder().encode(JSON.stringify(list))]);
  await platform.movePath(source, platform.joinPath(folder, commitName));
  await finishReplacing(folder);
}

/** Goes on with a replacement that was interrupted, where there is one. */
export async function finishReplacing(folder: string): Promise<void> {
  const source = platform.joinPath(folder, commitName);
  if ((await platform.pathKind(source)) !== 'folder') return;
  const all = await platform.listFolder(source);
  // The list goes last: where it has gone, all is done.
  if (all.includes(listName)) {
    const names = all.filter((name) => name !== listName);
    const list = platform.joinPath(source, listName);
    const { remove } = checked(listSchema, (await readJsonFile(list)).value, { file: list });
    const isKey = (name: string) => keyFiles.includes(name);
    const inOrder = (files: readonly string[]) => [...files.filter((name) => !isKey(name)), ...files.filter(isKey)];
    for (const name of inOrder([...remove, ...names.filter(isKey)]).reverse()) await platform.removeFile(platform.joinPath(folder, name));
    for (const name of inOrder(names)) await platform.movePath(platform.joinPath(source, name), platform.joinPath(folder, name));
    await platform.removeFile(list);
  }
  await platform.removeFolder(source);
}
