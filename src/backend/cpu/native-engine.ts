import { platform } from '#platform';
import { BackendError, CheckpointError } from '../../util/errors.js';
import type { DeviceArray, Engine } from './engine.js';
import { mostThreadsUnasked, threadCount } from './threads.js';

/** What build/elapid.node exports; see native/addon.cc. */
export interface Addon {
  allocate(sizeBytes: number): number;
  free(address: number): void;
  copyIn(address: number, data: DeviceArray): void;
  copyOut(address: number, data: DeviceArray): void;
  mapFile(descriptor: number, offset: number, sizeBytes: number): number;
  unmapFile(address: number): void;
  /** Of mappings that were read behind the end of a file that was cut: the files' paths, '' where unknown, by the address. */
  lostFiles(): Record<string, string> | undefined;
  /** Instruction sets that were compiled in and that this processor can run, best first. */
  targets(): string[];
  /** Those that this processor can run, compiled in or not, best first. */
  processorTargets(): string[];
  /** The most threads that `open` takes. */
  maxThreads(): number;
  /** The unit that multiplies bfloat16 beside the AVX-512 kernels, or an empty string. */
  bf16Unit(): string;
  signatures(): string[];
  open(target: string, threads: number, onCompleted: () => void): object;
  /** How many threads were started: the system may refuse some. */
  threads(engine: object): number;
  submit(engine: object, words: Float64Array, count: number, notify: boolean): void;
  completed(engine: object): number;
  kernelTimes(engine: object): number[];
  keepAlive(engine: object, on: boolean): void;
  close(engine: object): void;
}

/** What people call an instruction set. */
export const targetNames: Readonly<Record<string, string>> = { sse2: 'SSE2', avx2: 'AVX2', avx512: 'AVX-512', neon: 'NEON' };

/**
 * Opens an engine on the compiled kernels for `target` (one of `addon.targets()`).
 * @param asked threads, or undefined for as many as serve
 * @throws BackendError when the system does not start as many threads as were asked for
 */
export function openNativeEngine(addon: Addon, target: string, asked?: number): Engine {
  let listener: () => void = () => undefined;
  let failureListener: (error: Error) => void = () => undefined;
  const mapped = new Set<number>();
  let failure: CheckpointError | undefined;
  /** Frees memory; after a failure not before the engine has ended, since nobody waits for what still runs. */
  const release = (free: () => void): void => {
    if (failure === undefined) free();
    else atEnd.push(free);
  };
  const atEnd: (() => void)[] = [];
  const engine = addon.open(target, threadCount(asked, platform.processors, { most: addon.maxThreads(), unasked: mostThreadsUnasked }), () => {
    listener();
  });
  const threads = addon.threads(engine);
  if (asked !== undefined && threads < asked) {
    addon.close(engine);
    throw new BackendError(
      `openBackend: the system started ${threads} of ${asked} threads. ` +
        'Hint: fewer, or a higher limit of processes (ulimit -u, or the container\'s pids limit)',
    );
  }
  const unit = target === 'avx512' ? addon.bf16Unit() : '';
  return {
    description: `native ${targetNames[target] ?? target}${unit === '' ? '' : ` + ${unit}`} kernels, ${threads} thread${threads === 1 ? '' : 's'}`,
    signatures: addon.signatures(),
    allocate: (sizeBytes) => addon.allocate(sizeBytes) || undefined,
    free: (address) => {
      release(() => {
        addon.free(address);
      });
    },
    copyIn: (address, data) => {
      addon.copyIn(address, data);
    },
    copyOut: (address, data) => {
      addon.copyOut(address, data);
    },
    mapFile: (descriptor, offset, sizeBytes) => {
      const address = addon.mapFile(descriptor, offset, sizeBytes);
      if (address === 0) return undefined;
      mapped.add(address);
      return address;
    },
    unmapFile: (address) => {
      mapped.delete(address);
      release(() => {
        addon.unmapFile(address);
      });
    },
    submit: (words, count, notify) => {
      addon.submit(engine, words, count, notify);
    },
    completed: () => {
      const count = addon.completed(engine);
      const [, path] = Object.entries(addon.lostFiles() ?? {}).find(([address]) => mapped.has(Number(address))) ?? [];
      if (path !== undefined) failure ??= lostFile(path);
      if (failure === undefined) return count;
      // Work whose results may be wrong is never done. Whoever waits for it, or begins to in this turn, hears why.
      const error = failure;
      queueMicrotask(() => {
        failureListener(error);
      });
      return 0;
    },
    kernelTimes: () => addon.kernelTimes(engine),
    onCompleted: (callback) => {
      listener = callback;
    },
    onFailed: (callback) => {
      failureListener = callback;
    },
    keepAlive: (on) => {
      addon.keepAlive(engine, on);
    },
    close: () => {
      addon.close(engine);
      for (const free of atEnd.splice(0)) free();
      return Promise.resolve();
    },
  };
}

function lostFile(path: string): CheckpointError {
  return new CheckpointError(
    'the file was cut while its weights were in use; what was computed since is lost, and this backend with it. Hint: load the model on a ' +
      'new backend, with mapped: false where another program may write to the file.',
    { file: path === '' ? '(mapped weights)' : path },
  );
}
