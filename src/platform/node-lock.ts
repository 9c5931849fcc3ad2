import { randomUUID } from 'node:crypto';
import { readFileSync, rmdirSync, unlinkSync } from 'node:fs';
import { constants, copyFile, link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileError, makeFolders } from './node-files.js';
import type { FolderLock, LockOwner } from './platform.js';

/** The file in a folder that says which process writes to it. */
const lockName = '.elapid-lock';

/** What is in the file. */
interface Lock extends LockOwner {
  /** When the process itself began, as far as the system tells: another process may have got its id since. */
  readonly birth: string | null;
  readonly id: string;
}

/** The ids of the locks that this process has. */
const held = new Set<string>();

/** See `Platform.isRunning`. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** See `Platform.lockFolder`. */
export async function lockFolder(folder: string, command: string): Promise<FolderLock | LockOwner> {
  // The working folder may change before the lock is released.
  const home = resolve(folder);
  const firstMade = await makeFolders(home);
  const file = join(home, lockName);
  const own: Lock = { pid: process.pid, host: hostname(), since: new Date().toISOString(), command, birth: birthOf(process.pid), id: randomUUID() };
  held.add(own.id);
  const giveUp = () => {
    held.delete(own.id);
    if (firstMade !== undefined) removeWhileEmpty(home, firstMade);
  };
  try {
    const owner = await take(file, own);
    if (owner !== undefined) {
      giveUp();
      return owner;
    }
  } catch (error) {
    giveUp();
    throw fileError('cannot be written', folder, error);
  }
  const release = () => {
    if (!held.has(own.id)) return;
    process.off('exit', release);
    try {
      if (parse(readFileSync(file, 'utf8'))?.id === own.id) unlinkSync(file);
    } catch {
      // It is gone, or it stays and will be seen to be of a process that has ended.
    }
    giveUp();
  };
  process.once('exit', release);
  return { release };
}

/** Puts the lock into its place, where that is free or its owner has ended. @returns who has it otherwise */
async function take(file: string, own: Lock): Promise<LockOwner | undefined> {
  const text = JSON.stringify(own);
  const suffix = `${process.pid}-${own.id}`;
  const temporary = `${file}.tmp-${suffix}`;
  await removeLeftOvers(file);
  try {
    await writeFile(temporary, text);
    for (let tookOver = false; ; ) {
      if (await putIfFree(temporary, file)) {
        if (!tookOver) return undefined;
        // Another process that took the same lock over at the same moment may have removed this one.
        await delay(50);
        if ((await contentOf(file)) === text) return undefined;
        continue;
      }
      const found = await contentOf(file);
      if (found === undefined) continue;
      const owner = parse(found);
      if (owner !== undefined && !hasEnded(owner)) return owner;
      tookOver = true;
      await removeIfSame(file, found, `${file}.old-${suffix}`);
    }
  } finally {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}

/** Puts a whole file where there is none. @returns false where there is one */
async function putIfFree(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to).catch(async (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
      // A file system without hard links.
      await copyFile(from, to, constants.COPYFILE_EXCL);
    });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Removes a lock whose content was judged, by way of `aside`; one that came in its place since is put back. */
async function removeIfSame(file: string, judged: string, aside: string): Promise<void> {
  try {
    await rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if ((await contentOf(aside)) !== judged) await putIfFree(aside, file);
  await rm(aside, { force: true });
}

/** Removes what processes left that were killed while they took a lock. */
async function removeLeftOvers(file: string): Promise<void> {
  for (const name of await readdir(dirname(file))) {
    const [, pid, id = ''] = /^\.elapid-lock\.(?:tmp|old)-(\d+)-(.*)$/.exec(name) ?? [];
    const ended = Number(pid) === process.pid ? !held.has(id) : !isRunning(Number(pid));
    if (pid !== undefined && ended) await rm(join(dirname(file), name), { force: true });
  }
}

async function contentOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The lock of a file's text, or undefined where it is none: whoever wrote it, no process can be asked. */
function parse(text: string): Lock | undefined {
  try {
    const value = JSON.parse(text) as Partial<Lock> | null;
    const { pid, host, since, command, id } = value ?? {};
    const whole = Number.isSafeInteger(pid) && [host, since, command, id].every((field) => typeof field === 'string');
    return whole ? (value as Lock) : undefined;
  } catch {
    return undefined;
  }
}

function hasEnded({ pid, host, birth, id }: Lock): boolean {
  if (host !== hostname()) return false;
  if (pid === process.pid) return !held.has(id);
  if (!isRunning(pid)) return true;
  const now = birthOf(pid);
  return now !== null && typeof birth === 'string' && birth !== now;
}

/** When a process began: the boot of the machine, and clock ticks since. Null where the system does not tell (only Linux does). */
function birthOf(pid: number): string | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    // The second field is a name in brackets, which may hold anything; the 22nd is the start.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');
    return `${boot} ${fields[19] ?? ''}`;
  } catch {
    return null;
  }
}

/** Removes folders that are empty, from `folder` up to `last`. */
function removeWhileEmpty(folder: string, last: string): void {
  try {
    for (let at = folder; at.length >= last.length; at = dirname(at)) rmdirSync(at);
  } catch {
    // Something is inside.
  }
}
