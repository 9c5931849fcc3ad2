import { platform } from '#platform';
import type { FolderLock } from '../platform/platform.js';
import { ArgumentError } from '../util/errors.js';

/**
 * Makes a folder this process's own.
 * @throws ArgumentError naming the process that has it
 * @throws FileError where the folder cannot be made or written to
 */
export async function lockFolder(operation: string, folder: string): Promise<FolderLock> {
  const lock = await platform.lockFolder(folder, `elapid ${operation}`);
  if ('release' in lock) return lock;
  const here = lock.host === platform.host;
  const where = here ? '' : ` on ${lock.host}`;
  const hint = here
    ? 'wait until it has ended, or name another folder'
    : `this machine cannot tell whether that process still runs; if it does not, delete ${platform.joinPath(folder, '.elapid-lock')}`;
  throw new ArgumentError(`${operation}: ${folder} is in use by process ${lock.pid}${where} (${lock.command}, since ${lock.since}). Hint: ${hint}`);
}
