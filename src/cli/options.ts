import { InvalidArgumentError, Option, type Command } from 'commander';
import { mostThreadsUnasked } from '../backend/cpu/threads.js';
import { openBackendWithNotice, type BackendOptions } from '../backend/open.js';
import { weightDTypes } from '../models/index.js';
import type { Backend } from '../tensor/index.js';

/** Parses an integer of at least `least` and at most `most`. */
export const integer =
  (least: number, most = Number.MAX_SAFE_INTEGER) =>
  (text: string): number => {
    const value = Number(text);
    if (Number.isSafeInteger(value) && value >= least && value <= most && text.trim() !== '') return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `≥ ${least}` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`expected an integer ${range}`);
  };

/** Parses the seed of a random generator. */
export const seedNumber = integer(0, 2 ** 32 - 1);

/** Parses a number in [low, high]. */
export const number =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text);
    if (value >= low && value <= high && text.trim() !== '') return value;
    const range = high === Infinity ? `≥ ${low}` : `from ${low} to ${high}`;
    throw new InvalidArgumentError(`expected a number ${range}`);
  };

/** Parses a number in (0, 1]. */
export function positiveShare(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 1) return value;
  throw new InvalidArgumentError('expected a number above 0, at most 1');
}

/** Refuses the empty text, which a shell variable that is not set gives; `then` does what is to be done with others. */
export const someText =
  <T = string>(then: (text: string, earlier?: T) => T = (text) => text as T) =>
  (text: string, earlier?: T): T => {
    if (text !== '') return then(text, earlier);
    throw new InvalidArgumentError('expected some text');
  };

/** Collects a repeatable option. */
export const repeated = (value: string, earlier: readonly string[] = []): readonly string[] => [...earlier, value];

/** Options of every command that computes. */
export interface ComputeOptions {
  readonly backend: 'cpu' | 'webgpu';
  readonly threads?: number;
  readonly kernels: NonNullable<BackendOptions['kernels']>;
  readonly precision?: NonNullable<BackendOptions['precision']>;
}

/** Adds `--backend`, `--threads` and `--kernels`. */
export function withBackendOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--backend <kind>', 'what to compute on; webgpu is a GPU and needs the package webgpu: npm install webgpu')
        .choices(['cpu', 'webgpu'])
        .default('cpu'),
    )
    .option('--threads <n>', `threads of the CPU to compute with (default: one a processor, at most ${mostThreadsUnasked}; fewer in wasm)`, integer(1))
    .addOption(
      new Option('--kernels <kind>', 'compiled kernels of the CPU to run; auto: the fastest that were built for this machine, else wasm')
        .choices(['auto', 'native', 'wasm', 'avx512', 'avx2', 'sse2', 'neon'])
        .default('auto'),
    )
    .hook('preAction', checkComputeOptions);
}

/** Adds `--backend`, `--threads`, `--kernels` and `--precision`. */
export function withComputeOptions(command: Command): Command {
  return withBackendOptions(command).addOption(
    new Option(
      '--precision <format>',
      'what to compute in; bf16 (cpu) rounds the factors of matrix products, faster with AMX or AVX512-BF16; f16 (webgpu) is mixed precision: activations in f16 as well, and training scales the loss',
    )
      .choices(['f32', 'bf16', 'f16'])
      .default('f32'),
  );
}

/** Ends with a usage error where an option was given that the backend asked for does not have. */
function checkComputeOptions(command: Command): void {
  const { backend, precision } = command.opts<ComputeOptions>();
  if (backend === 'webgpu') {
    for (const name of ['threads', 'kernels']) refuseOption(command, name, "is for '--backend cpu'");
  }
  const other = { cpu: 'f16', webgpu: 'bf16' }[backend];
  if (precision === other) command.error(`error: option '--precision ${precision}' is for '--backend ${backend === 'cpu' ? 'webgpu' : 'cpu'}'`);
}

/**
 * Ends with a usage error where an option was given: it would have no effect.
 * @param name of the option's value, as `topK`
 * @param why what follows the option's name in the message
 */
export function refuseOption(command: Command, name: string, why: string): void {
  if (command.getOptionValueSource(name) !== 'cli') return;
  const flag = command.options.find((option) => option.attributeName() === name)?.long ?? name;
  command.error(`error: option '${flag}' ${why}`);
}

/** `--dtype`, of commands that load a model. */
export const dtypeOption = (): Option =>
  new Option('--dtype <format>', 'of the large weight matrices, converted while they load (default: as they are stored)').choices(weightDTypes);

/** `--verify`, of commands that load a model. */
export const verifyOption = (): Option =>
  new Option('--verify', 'compare all weights with the checksums in their file first, also those that are mapped (large files)');

/** Tells of something odd in a model's files. */
export const printWarning = (message: string): void => {
  process.stderr.write(`elapid: warning: ${message}\n`);
};

/** Runs `body` on the backend asked for and closes it; says on stderr when the slower kernels serve. */
export async function withBackend<T>(options: ComputeOptions, body: (backend: Backend) => Promise<T>): Promise<T> {
  const { backend: kind, threads, kernels, precision = 'f32' } = options;
  const { backend, notice } = await openBackendWithNotice(kind, { kernels, precision, ...(threads === undefined ? {} : { threads }) });
  if (notice !== undefined) process.stderr.write(`elapid: ${notice}\n`);
  try {
    return await body(backend);
  } finally {
    await backend.close();
  }
}

/**
 * A signal that Ctrl-C, a TERM, or the end of the terminal (HUP) triggers. A second Ctrl-C or TERM ends the process at once; a
 * terminal that closes may well send HUP twice.
 */
export function interruption(): { signal: AbortSignal; stop: () => void } {
  const controller = new AbortController();
  let asked = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked && signal !== 'SIGHUP') process.exit(exitCodes.interrupted);
    asked ||= signal !== 'SIGHUP';
    controller.abort();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, onSignal);
  const stop = () => {
    for (const name of signals) process.off(name, onSignal);
  };
  return { signal: controller.signal, stop };
}

/** `--overwrite`, of commands that write. */
export const overwriteOption = (what = 'replace the model, run or shards in the folder, when the new one is whole'): Option => new Option('--overwrite', what);

/** Options that are not settings of a run, but of this process. */
const ofProcess = ['resume', 'dashboard', 'backend', 'threads', 'kernels', 'precision', 'debug'];

/** Ends with wrong usage where `--resume` comes with an option that a run in progress cannot change. */
export function refuseFixed(command: Command, changeable: readonly string[]): void {
  const given = command.options.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
  const fixed = given.find((option) => ![...changeable, ...ofProcess].includes(option.attributeName()));
  if (fixed !== undefined) command.error(`error: '--resume' takes '${fixed.long ?? fixed.flags}' from the run's folder`);
}

/** What the process's exit code says. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;
