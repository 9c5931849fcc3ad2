/**
 * Error classes of the package. Every message names the operation, the argument, what was expected, what came, and,
 * where there is one, a hint.
 */

/** What is wrong with an argument, in the parts of its message. */
export interface Problem {
  /** The operation, function or method that was called: `matmul`. */
  readonly operation: string;
  /** The argument that is wrong: `b`. */
  readonly argument: string;
  /** What it may be: `[K,N] = [4,N]`. */
  readonly expected: string;
  /** What came: `[3,2]`. */
  readonly got: string;
  /** What may help. */
  readonly hint?: string | undefined;
}

/** The same of what several operations look at, such as a config: each says its own name. */
export type ArgumentProblem = Omit<Problem, 'operation'>;

/**
 * Base class: `instanceof ElapidError` tells errors of this package from errors of the program.
 *
 * An error of an argument keeps the parts of its message as fields; `JSON.stringify(error)` has them. Other errors have a message
 * only, and undefined fields.
 */
export class ElapidError extends Error {
  override name = 'ElapidError';
  // Declared, not defined: an error that has a message only is printed and serialised without them.
  declare readonly operation: string | undefined;
  declare readonly argument: string | undefined;
  declare readonly expected: string | undefined;
  declare readonly got: string | undefined;
  declare readonly hint: string | undefined;

  /** @param problem the parts of the message, or the message where there are no such parts */
  constructor(problem: string | Problem, options?: ErrorOptions) {
    super(typeof problem === 'string' ? problem : describeProblem(problem), options);
    if (typeof problem === 'string') return;
    const { operation, argument, expected, got, hint } = problem;
    Object.assign(this, { operation, argument, expected, got, ...(hint === undefined ? {} : { hint }) });
  }
}

/** A tensor has the wrong shape. */
export class ShapeError extends ElapidError {
  override name = 'ShapeError';
}

/** A tensor has the wrong dtype. */
export class DTypeError extends ElapidError {
  override name = 'DTypeError';
}

/** A tensor, program or backend was used after it was freed. */
export class DisposedError extends ElapidError {
  override name = 'DisposedError';
}

/** A backend could not start, lacks a kernel, or lost its device. */
export class BackendError extends ElapidError {
  override name = 'BackendError';
}

/** An argument that is neither a shape nor a dtype is out of its range. */
export class ArgumentError extends ElapidError {
  override name = 'ArgumentError';
}

/** Where in a checkpoint something is wrong. */
export interface CheckpointLocation {
  /** Path or URL of the file. */
  file: string;
  /** Name of the tensor or JSON key. */
  key?: string;
  /** Position in the file, in bytes. */
  offset?: number;
}

/** A checkpoint file is damaged, hostile, or does not fit the model. */
export class CheckpointError extends ElapidError {
  override name = 'CheckpointError';
  readonly file: string;
  readonly key: string | undefined;
  readonly offset: number | undefined;

  constructor(problem: string, location: CheckpointLocation, options?: ErrorOptions) {
    const { file, key, offset } = location;
    const where = [file, key === undefined ? '' : `key '${key}'`, offset === undefined ? '' : `byte ${offset}`];
    super(`${where.filter((part) => part !== '').join(', ')}: ${problem}`, options);
    this.file = file;
    this.key = key;
    this.offset = offset;
  }
}

/** A file or folder could not be written. */
export class FileError extends ElapidError {
  override name = 'FileError';
  readonly file: string;
  /** What the operating system calls the fault, such as ENOSPC. */
  readonly code: string;

  constructor(problem: string, { file, code }: { file: string; code: string }, options?: ErrorOptions) {
    super(`${file} ${problem} (${code})`, options);
    this.file = file;
    this.code = code;
  }
}

/** A value that was given as an argument, for a message: `NaN`, `'f64'`, `null`, `an array of 3`, `a promise`. */
export function describeValue(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `'${value}'`;
    case 'bigint':
      return `${String(value)}n`;
    case 'function':
      return 'a function';
    case 'object':
      break;
    default:
      return String(value);
  }
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value instanceof Promise) return 'a promise (is an await missing?)';
  const name = (value.constructor as { name?: string } | undefined)?.name ?? 'Object';
  return name === 'Object' ? 'an object' : `a value of type ${name}`;
}

/** `op: argument is got; expected expected. Hint: …` */
function describeProblem({ operation, argument, expected, got, hint }: Problem): string {
  return `${operation}: ${argument} is ${got}; expected ${expected}.${hint === undefined ? '' : ` Hint: ${hint}`}`;
}
