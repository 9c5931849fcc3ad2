import { asyncDisposeSymbol } from '../../util/disposal.js';
import { BackendError, DisposedError } from '../../util/errors.js';
import { nativeBuild } from '../../util/native-build.js';
import {
  itemSize,
  type BufferView,
  type DeviceBuffer,
  type DType,
  type HostArray,
  type Kernel,
  type MappingBackend,
  type Precision,
  type Program,
} from '../../tensor/index.js';
import { Counters } from '../counters.js';
import { copyRows, copyRowsI32, fill } from '../memory/kernels.js';
import { MemoryLifetimes } from '../memory-lifetimes.js';
import { sizeClass } from '../size-class.js';
import { BufferPool, type Block } from './buffer-pool.js';
import type { DeviceArray, Engine } from './engine.js';

/** Launches encoded before they are handed to the executor, so that it starts while JavaScript goes on encoding. */
const launchesPerSubmission = 32;

/** Pages of a file. */
interface Mapping {
  readonly address: number;
  readonly sizeBytes: number;
}

interface CpuBuffer extends DeviceBuffer {
  readonly memory: Block | Mapping;
}

/** What waits for the stream. */
interface Waiter {
  readonly submission: number;
  /** Called in the same turn in which the submission is found to be done. */
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The words of launches, growing as needed. */
class CommandBuffer {
  words = new Float64Array(4096);
  count = 0;
  launches = 0;

  reserve(words: number): void {
    if (this.count + words <= this.words.length) return;
    const larger = new Float64Array(Math.max(2 * this.words.length, this.count + words));
    larger.set(this.words);
    this.words = larger;
  }

  append(other: Float64Array): void {
    this.reserve(other.length);
    this.words.set(other, this.count);
    this.count += other.length;
  }

  clear(): void {
    this.count = 0;
    this.launches = 0;
  }
}

/** Kernels in C++, run in order by an executor thread and its pool, off the event loop. */
export class CpuBackend implements MappingBackend {
  readonly kind = 'cpu';
  readonly stepsAhead = 1;
  readonly workingBytes = 4 * 2 ** 20;
  readonly description: string;
  readonly precision: Precision;
  readonly #engine: Engine;
  readonly #pool: BufferPool;
  readonly #counters = new Counters();
  readonly #poison: boolean;
  readonly #kernelNumbers = new Map<string, number>();
  readonly #commands = new CommandBuffer();
  #submissions = 0;
  #flushScheduled = false;
  #waiters: Waiter[] = [];
  #failure: Error | null = null;
  #closing: Promise<void> | null = null;
  readonly #mapped = new Set<Mapping>();
  readonly #lifetimes = new MemoryLifetimes<Block | Mapping>(this.#counters, (memory) => {
    this.#free(memory);
  });
  /** The launches of the step under capture. */
  #recording: CommandBuffer | null = null;

  constructor(engine: Engine, options: { poison?: boolean; precision?: Precision } = {}) {
    this.#engine = engine;
    this.#pool = new BufferPool(engine);
    this.#poison = options.poison ?? false;
    this.precision = options.precision ?? 'f32';
    this.description = `cpu (${engine.description}${this.precision === 'bf16' ? ', bf16 products' : ''})`;
    engine.signatures.forEach((signature, number) => this.#kernelNumbers.set(signature, number));
    engine.onCompleted(() => {
      this.#settle();
    });
    engine.onFailed((error) => {
      this.#failure = error;
      for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
    });
  }

  allocate(dtype: DType, size: number): DeviceBuffer {
    const buffer = this.#take(dtype, size, false);
    // Packed weights too, four bytes at a time: their sizes are multiples of a block's.
    const numbers = Math.floor((size * itemSize[dtype]) / 4);
    if (this.#poison && dtype !== 'i32') this.launch(fill as unknown as Kernel, [{ buffer, offset: 0, size }], [NaN, numbers]);
    return buffer;
  }

  upload(dtype: DType, size: number, data: () => ArrayLike<number>): DeviceBuffer {
    if (this.#recording !== null) throw new BackendError('capture: the step uploads from the host. Hint: create inputs before');
    if (dtype === 'f16') {
      // The kernel that copies also converts.
      const staged = this.upload('f32', size, data);
      const halves = this.allocate(dtype, size);
      this.#copy({ buffer: staged, offset: 0, size }, { buffer: halves, offset: 0, size });
      this.release(staged);
      return halves;
    }
    // First, for it may throw.
    const values = toHostArray(dtype, data());
    const buffer = this.#take(dtype, size, true);
    this.#engine.copyIn(buffer.memory.address, values);
    return buffer;
  }

  write(view: BufferView, data: ArrayLike<number>): void {
    this.#expectAlive('write');
    // Launches already in the stream may still read the old values: stage the new ones and copy in order.
    const staged = this.upload(onHost(view.buffer.dtype), view.size, () => data);
    this.#copy({ buffer: staged, offset: 0, size: view.size }, view);
    this.release(staged);
  }

  async read(view: BufferView, into?: HostArray): Promise<HostArray> {
    this.#expectAlive('read');
    if (this.#recording !== null) throw new BackendError('capture: the step reads results. Hint: read after replay()');
    // The caller may free or overwrite the view before the promise resolves: what is read is a copy made in order.
    const { size } = view;
    const dtype = onHost(view.buffer.dtype);
    const staged = this.#take(dtype, size, false);
    this.#copy(view, { buffer: staged, offset: 0, size });
    try {
      const submission = this.#submitAll();
      // Fresh memory takes as long as copying it several times over: while the kernels run, or never.
      const values = fits(into, dtype, size) ? into : hostArray(dtype, size);
      // Copied in the turn in which the kernels are done: in the next one the memory may be gone, with the backend.
      await this.#reached(submission, () => {
        this.#engine.copyOut(staged.memory.address, values);
      });
      return values;
    } finally {
      this.release(staged);
    }
  }

  release(buffer: DeviceBuffer): void {
    this.#lifetimes.release((buffer as CpuBuffer).memory, buffer.size * itemSize[buffer.dtype]);
  }

  supports({ signature }: Pick<Kernel, 'signature'>): boolean {
    return this.#kernelNumbers.has(signature);
  }

  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    if (this.#failure !== null) this.#expectAlive(kernel.name);
    const number = this.#kernelNumbers.get(kernel.signature);
    if (number === undefined) {
      throw new BackendError(
        `${kernel.name}: the compiled kernels have no such kernel. ` +
          `Hint: they are older than this code; to build them again: ${nativeBuild}`,
      );
    }
    const commands = this.#recording ?? this.#commands;
    const length = 2 + views.length + parameters.length;
    commands.reserve(length);
    const { words } = commands;
    let i = commands.count;
    words[i++] = number;
    words[i++] = length;
    for (const view of views) {
      words[i++] = view === null ? 0 : (view.buffer as CpuBuffer).memory.address + view.offset * itemSize[view.buffer.dtype];
    }
    for (const parameter of parameters) words[i++] = parameter;
    commands.count = i;
    commands.launches++;
    this.#counters.launches++;
    if (this.#recording === null) this.#encoded();
    else this.#lifetimes.captured(kernel, views, memoryOf);
  }

  async synchronize(): Promise<void> {
    this.#expectAlive('synchronize');
    await this.#reached(this.#submitAll());
  }

  capture(step: () => void): Program {
    this.#expectAlive('capture');
    const commands = new CommandBuffer();
    const recorded = () => {
      this.#recording = commands;
      try {
        step();
      } finally {
        this.#recording = null;
      }
    };
    return this.#lifetimes.capture(recorded, () => {
      const words = commands.words.slice(0, commands.count);
      const { launches } = commands;
      const replay = () => {
        if (this.#failure !== null) this.#expectAlive('replay');
        this.#commands.append(words);
        this.#commands.launches += launches;
        this.#counters.launches += launches;
        this.#encoded();
      };
      return { launches, replay };
    });
  }

  mapFile(descriptor: number, offset: number, dtype: DType, size: number): DeviceBuffer | undefined {
    this.#expectAlive('mapFile');
    if (this.#recording !== null) throw new BackendError('capture: the step maps a file. Hint: load weights before');
    const sizeBytes = size * itemSize[dtype];
    const address = sizeBytes === 0 ? undefined : this.#engine.mapFile?.(descriptor, offset, sizeBytes);
    if (address === undefined) return undefined;
    const memory: Mapping = { address, sizeBytes };
    this.#mapped.add(memory);
    this.#lifetimes.taken(memory, sizeBytes);
    const buffer: CpuBuffer = { dtype, size, memory };
    return buffer;
  }

  /**
   * Milliseconds spent in each kernel since the backend was opened, longest first, after everything launched so far;
   * undefined from the wasm kernels, which have no clock.
   */
  async kernelTimes(): Promise<{ kernel: string; milliseconds: number }[] | undefined> {
    await this.synchronize();
    return this.#engine
      .kernelTimes?.()
      .map((nanoseconds, i) => ({
        kernel: this.#engine.signatures[i]?.replace(/\(.*/, '') ?? '',
        milliseconds: nanoseconds / 1e6,
      }))
      .filter(({ milliseconds }) => milliseconds > 0)
      .sort((a, b) => b.milliseconds - a.milliseconds);
  }

  statistics() {
    return this.#counters.statistics();
  }

  resetStatistics(): void {
    this.#counters.reset();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // What is in the stream ends; what comes after this line is refused.
    const ended = this.#failure === null ? this.#reached(this.#submitAll()) : Promise.resolve();
    this.#lifetimes.close();
    this.#failure ??= new DisposedError('the backend was closed');
    // A worker may die meanwhile: then nothing runs any more either.
    await ended.catch(() => undefined);
    for (const { address, sizeBytes } of this.#mapped) this.#engine.unmapFile?.(address, sizeBytes);
    this.#mapped.clear();
    this.#pool.freeAll();
    await this.#engine.close();
  }

  [asyncDisposeSymbol](): Promise<void> {
    return this.close();
  }

  /** @throws DisposedError after `close()`; what ended the engine, where it has died */
  #expectAlive(operation: string): void {
    if (this.#failure === null) return;
    if (this.#closing !== null) throw new DisposedError(`${operation}: the backend was closed`);
    throw this.#failure;
  }

  #copy(from: BufferView, to: BufferView): void {
    const dtypes = [from.buffer.dtype, to.buffer.dtype] as const;
    const [dtype] = dtypes;
    if (dtype === 'f32' || dtype === 'f16') {
      this.launch(copyRows as unknown as Kernel, [from, to], [1, to.size, to.size, to.size, ...dtypes.map((one) => Number(one === 'f16'))]);
      return;
    }
    const words = (to.size * itemSize[dtype]) / 4;
    this.launch(copyRowsI32 as unknown as Kernel, [from, to], [1, words, words, words]);
  }

  #free(memory: Block | Mapping): void {
    if (isBlock(memory)) this.#pool.give(memory, this.#submissions + 1);
    else void this.#unmap(memory);
  }

  /** Unmaps when the launches that may read the pages are done. */
  async #unmap(memory: Mapping): Promise<void> {
    if (this.#failure === null) await this.#reached(this.#submitAll()).catch(() => undefined);
    if (this.#mapped.delete(memory)) this.#engine.unmapFile?.(memory.address, memory.sizeBytes);
  }

  #take(dtype: DType, size: number, idle: boolean): CpuBuffer {
    if (this.#failure !== null) this.#expectAlive('allocate');
    const sizeBytes = size * itemSize[dtype];
    const memory = this.#lifetimes.reuse(sizeClass(sizeBytes)) ?? this.#pool.take(sizeBytes, idle);
    this.#lifetimes.taken(memory, sizeBytes);
    return { dtype, size, memory };
  }

  #encoded(): void {
    if (this.#commands.launches >= launchesPerSubmission) {
      this.#submit(false);
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(() => {
        this.#flushScheduled = false;
        this.#submit(false);
      });
    }
  }

  #submit(notify: boolean): void {
    const { words, count } = this.#commands;
    if (count === 0 && !notify) return;
    if (this.#failure !== null) return;
    this.#submissions++;
    this.#engine.submit(words, count, notify);
    this.#commands.clear();
  }

  /** Submits everything encoded so far. @returns the number of the last submission */
  #submitAll(): number {
    this.#submit(true);
    return this.#submissions;
  }

  /** Calls `then` in the turn in which a submission is found to be done, and resolves. */
  async #reached(submission: number, then: () => void = () => undefined): Promise<void> {
    if (this.#engine.completed() >= submission) {
      then();
      return;
    }
    await new Promise<void>((resolve, reject) => {
      if (this.#waiters.length === 0) this.#engine.keepAlive(true);
      const done = () => {
        then();
        resolve();
      };
      this.#waiters.push({ submission, resolve: done, reject });
    });
  }

  #settle(): void {
    const completed = this.#engine.completed();
    const settled = this.#waiters.filter((waiter) => waiter.submission <= completed);
    this.#waiters = this.#waiters.filter((waiter) => waiter.submission > completed);
    for (const { resolve } of settled) resolve();
    if (settled.length > 0 && this.#waiters.length === 0) this.#engine.keepAlive(false);
  }
}

const isBlock = (memory: Block | Mapping): memory is Block => 'busyUntil' in memory;

/** What a buffer's values are on the host. */
const onHost = (dtype: DType): DType => (dtype === 'f16' ? 'f32' : dtype);

const memoryOf = ({ buffer }: BufferView) => (buffer as CpuBuffer).memory;

function fits(array: HostArray | undefined, dtype: DType, size: number): array is DeviceArray {
  const type = dtype === 'f32' ? Float32Array : dtype === 'i32' ? Int32Array : Uint8Array;
  return array instanceof type && array.length === size;
}

function hostArray(dtype: DType, size: number): DeviceArray {
  return dtype === 'f32' ? new Float32Array(size) : dtype === 'i32' ? new Int32Array(size) : new Uint8Array(size);
}

function toHostArray(dtype: DType, data: ArrayLike<number>): DeviceArray {
  if (dtype === 'f32') return data instanceof Float32Array ? data : Float32Array.from(data);
  if (dtype === 'i32') return data instanceof Int32Array ? data : Int32Array.from(data);
  return data instanceof Uint8Array ? data : Uint8Array.from(data);
}
