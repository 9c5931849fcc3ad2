import { exitCodes } from './options.js';

let worksOn = false;

/** From now on this process has something to finish, whether anybody reads what it prints or not. */
export function workOnWithoutReaders(): void {
  worksOn = true;
}

/**
 * Sees to it that a closed stdout or stderr is no crash. A reader that has seen enough (`| head`) ends a command whose result is what
 * it prints; a command that trains or writes files goes on. Nobody can be told of a stderr that is closed.
 */
export function watchStreams(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    if (worksOn) return;
    // EIO: the terminal is gone.
    if (code === 'EPIPE' || code === 'EIO') process.exit(exitCodes.ok);
    process.stderr.write(`elapid: standard output cannot be written: ${message}\n`);
    process.exit(exitCodes.failed);
  });
}
