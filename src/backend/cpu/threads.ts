import { ArgumentError } from '../../util/errors.js';

/** Most threads without being asked for more: beyond it memory, which they share, is what kernels wait for. */
export const mostThreadsUnasked = 64;

/** How many threads an engine can run, and how many it starts unasked on a machine with as many processors. */
export interface ThreadBounds {
  readonly most: number;
  readonly unasked: number;
}

/**
 * How many threads to start.
 * @param asked what the caller wants, or undefined: one a processor, within the bounds
 * @param processors how many this process may use
 * @throws ArgumentError when `asked` is no integer from 1 to `most`
 */
export function threadCount(asked: number | undefined, processors: number, { most, unasked }: ThreadBounds): number {
  if (asked === undefined) return Math.max(1, Math.min(Math.floor(processors) || 1, unasked, most));
  if (Number.isInteger(asked) && asked >= 1 && asked <= most) return asked;
  // JavaScript's callers may pass anything: 'auto' is a string.
  const got = typeof asked === 'string' ? `'${String(asked)}'` : String(asked);
  throw new ArgumentError({
    operation: 'openBackend',
    argument: 'threads',
    expected: `an integer from 1 to ${most}`,
    got,
    hint: `leave it out for one a processor, at most ${unasked}`,
  });
}
