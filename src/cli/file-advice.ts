import { ElapidError, FileError } from '../util/errors.js';

/**
 * The error of a run that could not write a file, with what to do next; any other error as it is.
 * @param begun whether the run has a checkpoint
 */
export function withFileAdvice(error: unknown, operation: string, folder: string, begun: boolean): unknown {
  if (!(error instanceof ElapidError && error.cause instanceof FileError)) return error;
  const { code } = error.cause;
  const first = ['ENOSPC', 'EDQUOT'].includes(code)
    ? 'free some space'
    : ['EACCES', 'EPERM', 'EROFS'].includes(code)
      ? 'see to it that the folder can be written to'
      : 'mend that';
  const next = begun ? `elapid ${operation} --resume ${folder}` : 'begin again';
  return new ElapidError(`${error.message}. Hint: ${first}, then ${next}`, { cause: error });
}
