/** What to say of a path that leads nowhere. */
import { platform } from '#platform';
import { nearest } from '../util/nearest.js';

/** `owner/model`, as the Hugging Face hub names models, by itself or in the address of a page. */
const hubName = /^(?:https?:\/\/huggingface\.co\/)?([A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)/;
const webAddress = /^https?:\/\//;

/**
 * The rest of an error about a path that does not exist: that it does not, and the likeliest remedy. A near name in the same
 * folder, the folder on the way that is missing, or how to download a model.
 */
export async function describeMissing(path: string): Promise<string> {
  const problem = 'no such file or folder';
  if (platform.kind === 'browser') return problem;
  const hub = hubName.exec(path);
  if (webAddress.test(path)) return `${problem}. Hint: this is a web address, and files are read from this machine. ${download(hub?.[1])}`;
  const near = await nearestPath(path);
  if (near !== undefined) return `${problem}. Hint: did you mean ${near}?`;
  if (hub?.[1] === path) return `${problem}. Hint: if this is a model of the Hugging Face hub: ${download(path)}`;
  const { folder } = split(path);
  if (folder === '' || (await platform.pathKind(folder)) !== undefined) return problem;
  const nearFolder = await nearestPath(folder);
  return `${problem}: its folder ${folder} does not exist either${nearFolder === undefined ? '' : `. Hint: did you mean ${nearFolder}?`}`;
}

function download(name: string | undefined): string {
  if (name === undefined) return 'Download it first.';
  const folder = name.replace(/^.*\//, '');
  return `download it first, then give the folder: huggingface-cli download ${name} --local-dir ${folder}`;
}

/** A path's folder, '' where it names none, what stands between, and its last name; slashes at the end left out. */
function split(path: string): { folder: string; separator: string; name: string } {
  const [, folder = '', separator = '', name = ''] = /^(.*?)([/\\]?)([^/\\]+)[/\\]*$/.exec(path) ?? [];
  return { folder, separator, name };
}

/** The path of the same folder whose name differs least, where it differs by a slip of the hand or by capitals, or goes on. */
async function nearestPath(path: string): Promise<string | undefined> {
  const { folder, separator, name } = split(path);
  // A folder that does not exist, or may not be read, has no near names.
  const names = await platform.listFolder(folder + separator || '.').catch((): string[] => []);
  const given = name.toLowerCase();
  const near = nearest(name, names) ?? (name.length < 4 ? undefined : names.sort().find((one) => one.toLowerCase().startsWith(given)));
  return near === undefined ? undefined : folder + separator + near;
}
