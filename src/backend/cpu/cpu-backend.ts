import { asyncDisposeSymbol, disposable } from '../../util/disposal.js';
import { BackendError } from '../../util/errors.js';
import {
  itemSize,
  type BufferView,
  type DeviceBuffer,
  type DType,
  type HostArray,
  type Kernel,
  type MappingBackend,
  type MatmulPrecision,
  type Program,
} from '../../tensor/index.js';
import { CapturedMemory } from '../captured-memory.js';
import { Counters } from '../counters.js';
import { copyRows, copyRowsI32, fill } from '../memory/kernels.js';
import { sizeClass } from '../size-class.js';
import { BufferPool, type Block } from './buffer-pool.js';
import type { DeviceArray, Engine } from './engine.js';

/** Launches encoded before they are handed to the executor, so that it starts while JavaScript goes on encoding. */
const launchesPerSubmission = 32;

interface CpuBuffer extends DeviceBuffer {
  readonly address: number;
  /** Memory of the pool, or null for a mapped file. */
  readonly block: Block | null;
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
  readonly matmul: MatmulPrecision;
  readonly #engine: Engine;
  readonly #pool: BufferPool;
  readonly #counters = new Counters();
  readonly #poison: boolean;
  readonly #kernelNumbers = new Map<string, number>();
  readonly #commands = new CommandBuffer();
  #submissions = 0;
  #flushScheduled = false;
  #waiters: { submission: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  #failure: Error | null = null;
  #closed = false;
  readonly #mapped = new Set<CpuBuffer>();
  #capture: { commands: CommandBuffer; memory: CapturedMemory<Block> } | null = null;

  constructor(engine: Engine, options: { poison?: boolean; matmul?: MatmulPrecision } = {}) {
    this.#engine = engine;
    this.#pool = new BufferPool(engine);
    this.#poison = options.poison ?? false;
    this.matmul = options.matmul ?? 'f32';
    this.description = `cpu (${engine.description}${this.matmul === 'bf16' ? ', bf16 products' : ''})`;
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
    if (dtype === 'f16') throw new BackendError('allocate: the CPU has no f16 tensors. Hint: the webgpu backend has');
    const buffer = this.#take(dtype, size, false);
    // Packed weights too, four bytes at a time: their sizes are multiples of a block's.
    const numbers = (size * itemSize[dtype]) / 4;
    if (this.#poison && dtype !== 'i32') this.launch(fill as unknown as Kernel, [{ buffer, offset: 0, size }], [NaN, numbers]);
    return buffer;
  }

  upload(dtype: DType, size: number, data: () => ArrayLike<number>): DeviceBuffer {
    if (this.#capture !== null) throw new BackendError('capture: the step uploads from the host. Hint: create inputs before');
    // First, for it may throw.
    const values = toHostArray(dtype, data());
    const buffer = this.#take(dtype, size, true);
    this.#engine.copyIn(buffer.address, values);
    return buffer;
  }

  write(view: BufferView, data: ArrayLike<number>): void {
    // Launches already in the stream may still read the old values: stage the new ones and copy in order.
    const staged = this.upload(view.buffer.dtype, view.size, () => data);
    this.#copy({ buffer: staged, offset: 0, size: view.size }, view);
    this.release(staged);
  }

  async read(view: BufferView, into?: HostArray): Promise<HostArray> {
    if (this.#capture !== null) throw new BackendError('capture: the step reads results. Hint: read after replay()');
    // The caller may free or overwrite the view before the promise resolves: what is read is a copy made in order.
    const { size, buffer } = view;
    const staged = this.#take(buffer.dtype, size, false);
    this.#copy(view, { buffer: staged, offset: 0, size });
    try {
      const done = this.synchronize();
      // Fresh memory takes as long as copying it several times over: while the kernels run, or never.
      const values = fits(into, buffer.dtype, size) ? into : hostArray(buffer.dtype, size);
      await done;
      this.#engine.copyOut(staged.address, values);
      return values;
    } finally {
      this.release(staged);
    }
  }

  release(buffer: DeviceBuffer): void {
    const { block } = buffer as CpuBuffer;
    this.#counters.released(buffer.size * itemSize[buffer.dtype]);
    if (this.#closed) return;
    if (block === null) {
      this.#unmap(buffer as CpuBuffer);
    } else if (this.#capture?.memory.keep(block) !== true) {
      this.#pool.give(block, this.#submissions + 1);
    }
  }

  supports({ signature }: Pick<Kernel, 'signature'>): boolean {
    return this.#kernelNumbers.has(signature);
  }

  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    const number = this.#kernelNumbers.get(kernel.signature);
    if (number === undefined) {
      throw new BackendError(
        `${kernel.name}: the compiled kernels have no such kernel. ` +
          'Hint: they are older than this code; build them again with npm rebuild elapid',
      );
    }
    const commands = this.#capture?.commands ?? this.#commands;
    const length = 2 + views.length + parameters.length;
    commands.reserve(length);
    const { words } = commands;
    let i = commands.count;
    words[i++] = number;
    words[i++] = length;
    for (const view of views) {
      words[i++] = view === null ? 0 : (view.buffer as CpuBuffer).address + view.offset * itemSize[view.buffer.dtype];
    }
    for (const parameter of parameters) words[i++] = parameter;
    commands.count = i;
    commands.launches++;
    this.#counters.launches++;
    if (this.#capture === null) this.#encoded();
  }

  async synchronize(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#submit(true);
    const submission = this.#submissions;
    if (this.#engine.completed() >= submission) return;
    await new Promise<void>((resolve, reject) => {
      if (this.#waiters.length === 0) this.#engine.keepAlive(true);
      this.#waiters.push({ submission, resolve, reject });
    });
  }

  capture(step: () => void): Program {
    if (this.#capture !== null) throw new BackendError('capture: already capturing');
    const capture = { commands: new CommandBuffer(), memory: new CapturedMemory<Block>() };
    this.#capture = capture;
    try {
      step();
    } catch (error) {
      for (const block of capture.memory.freed) this.#pool.give(block, this.#submissions + 1);
      throw error;
    } finally {
      this.#capture = null;
    }
    const words = capture.commands.words.slice(0, capture.commands.count);
    const { launches } = capture.commands;
    let owned = capture.memory.freed;
    return disposable({
      launches,
      replay: () => {
        this.#commands.append(words);
        this.#commands.launches += launches;
        this.#counters.launches += launches;
        this.#encoded();
      },
      dispose: () => {
        if (!this.#closed) for (const block of owned) this.#pool.give(block, this.#submissions + 1);
        owned = [];
      },
    });
  }

  mapFile(descriptor: number, offset: number, dtype: DType, size: number): DeviceBuffer | undefined {
    const sizeBytes = size * itemSize[dtype];
    const address = sizeBytes === 0 ? undefined : this.#engine.mapFile?.(descriptor, offset, sizeBytes);
    if (address === undefined) return undefined;
    this.#counters.allocated(sizeBytes);
    const buffer: CpuBuffer = { dtype, size, address, block: null };
    this.#mapped.add(buffer);
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

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.synchronize();
    this.#closed = true;
    this.#failure = new BackendError('the backend was closed');
    for (const buffer of this.#mapped) this.#engine.unmapFile?.(buffer.address, buffer.size * itemSize[buffer.dtype]);
    this.#pool.freeAll();
    await this.#engine.close();
  }

  [asyncDisposeSymbol](): Promise<void> {
    return this.close();
  }

  #copy(from: BufferView, to: BufferView): void {
    const { dtype } = from.buffer;
    const kernel = (dtype === 'f32' ? copyRows : copyRowsI32) as unknown as Kernel;
    const words = (to.size * itemSize[dtype]) / 4;
    this.launch(kernel, [from, to], [1, words, words, words]);
  }

  /** Unmaps when the launches that may read the pages are done. */
  #unmap(buffer: CpuBuffer): void {
    void this.synchronize()
      .catch(() => undefined)
      .then(() => {
        if (this.#mapped.delete(buffer)) this.#engine.unmapFile?.(buffer.address, buffer.size * itemSize[buffer.dtype]);
      });
  }

  #take(dtype: DType, size: number, idle: boolean): CpuBuffer {
    if (this.#failure !== null) throw this.#failure;
    const sizeBytes = size * itemSize[dtype];
    const block = this.#capture?.memory.reuse(sizeClass(sizeBytes)) ?? this.#pool.take(sizeBytes, idle);
    this.#capture?.memory.add(block);
    this.#counters.allocated(sizeBytes);
    return { dtype, size, address: block.address, block };
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

  #settle(): void {
    const completed = this.#engine.completed();
    const settled = this.#waiters.filter((waiter) => waiter.submission <= completed);
    this.#waiters = this.#waiters.filter((waiter) => waiter.submission > completed);
    for (const { resolve } of settled) resolve();
    if (settled.length > 0 && this.#waiters.length === 0) this.#engine.keepAlive(false);
  }
}

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
