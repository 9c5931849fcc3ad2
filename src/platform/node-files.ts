import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FileError } from '../util/errors.js';
import type { StagedFile } from './platform.js';

/** What people call the operating system's faults. */
const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'no space is left on the disk',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'it would be larger than a file may be',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EROFS: 'the file system is read-only',
  EISDIR: 'a folder of that name is in its place',
  ENOTEMPTY: 'a folder of that name is in its place',
  EEXIST: 'a file of that name is in its place',
  ENOTDIR: 'a part of the path is a file, not a folder',
  ENOENT: 'a folder of the path does not exist',
  ENAMETOOLONG: 'the path is too long',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
  EIO: 'the disk reports an error',
};

/** The operating system's error in words that name the file; any other error as it is. */
export function fileError(problem: string, file: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || typeof code !== 'string' || error instanceof FileError) return error;
  return new FileError(`${problem}: ${reasons[code] ?? error.message}`, { file, code }, { cause: error });
}

/** See `Platform.stageFile`. */
export async function stageFile(path: string, chunks: Iterable<Uint8Array>): Promise<StagedFile> {
  const temporary = `${path}.tmp-${process.pid}`;
  // That it cannot be removed is less than why it is to be.
  const discard = () => rm(temporary, { force: true }).catch(() => undefined);
  const orDiscard = async (error: unknown): Promise<never> => {
    await discard();
    throw fileError('cannot be written', path, error);
  };
  try {
    const handle = await open(temporary, 'w');
    try {
      for (const chunk of chunks) await handle.writeFile(chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    return await orDiscard(error);
  }
  return {
    async place() {
      await rename(temporary, path).catch(orDiscard);
      await syncFolder(dirname(path));
    },
    discard,
  };
}

/** See `Platform.writeFileAtomically`. */
export async function writeFileAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const staged = await stageFile(path, chunks);
  await staged.place();
}

/** See `Platform.movePath`. */
export async function movePath(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: unknown) => {
    throw fileError('cannot be written', to, error);
  });
  await syncFolder(dirname(to));
}

/** A rename must survive a power cut. Windows cannot open folders; its rename is journaled. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  await folder.sync().finally(() => folder.close());
}

/** See `Platform.makeFolder`. @returns the first folder that was missing */
export async function makeFolders(path: string): Promise<string | undefined> {
  try {
    return await mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError('cannot be made as a folder', path, error);
  }
}

export async function makeFolder(path: string): Promise<void> {
  await makeFolders(path);
}

export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true }).catch((error: unknown) => {
    throw fileError('cannot be removed', path, error);
  });
}

export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch((error: unknown) => {
    throw fileError('cannot be removed', path, error);
  });
}

export async function appendText(path: string, text: string): Promise<void> {
  try {
    const handle = await open(path, 'a');
    await handle.writeFile(text).finally(() => handle.close());
  } catch (error) {
    throw fileError('cannot be written', path, error);
  }
}
