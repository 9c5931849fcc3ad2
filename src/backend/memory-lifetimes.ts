import type { BufferView, Kernel, Program } from '../tensor/index.js';
import { disposable } from '../util/disposal.js';
import { BackendError, DisposedError } from '../util/errors.js';
import type { Counters } from './counters.js';

/** A piece of device memory, of one buffer at a time. */
export interface DeviceMemory {
  readonly sizeBytes: number;
}

/** Where a captured step first uses some memory: says in an error what was freed. */
interface FirstUse {
  readonly kernel: Kernel;
  readonly view: BufferView;
  /** Which of the kernel's buffers it is. */
  readonly index: number;
}

/** What is known of a step while it is captured. */
class Capture<Memory extends DeviceMemory> {
  /** Memory that the step took. */
  readonly own = new Set<Memory>();
  /** Of it, what the step has given back: by size, for the step alone to use again. */
  readonly idle = new Map<number, Memory[]>();
  readonly used = new Map<Memory, FirstUse>();
}

/** The memory that a program's launches use. */
interface ProgramMemory<Memory> {
  /** Nobody else's: freed with the program. */
  readonly owned: readonly Memory[];
  /** Of buffers that were live when the step had been captured. */
  readonly borrowed: ReadonlyMap<Memory, FirstUse>;
  /** The first of them whose buffer was released since. */
  lost: FirstUse | null;
}

/**
 * Decides when a backend's memory is free. A buffer that is released is done with, except where a program uses it: a replay would
 * read or write what is somebody else's by then, or unmapped. Such memory stays until the last program that uses it is disposed,
 * and those programs cannot be replayed any more.
 */
export class MemoryLifetimes<Memory extends DeviceMemory> {
  readonly #counters: Counters;
  readonly #free: (memory: Memory) => void;
  #capture: Capture<Memory> | null = null;
  readonly #users = new Map<Memory, Set<ProgramMemory<Memory>>>();
  /** Memory of released buffers that programs use, and the bytes it is counted with. */
  readonly #kept = new Map<Memory, number>();
  #closed = false;

  /** @param free gives memory back that no later launch uses */
  constructor(counters: Counters, free: (memory: Memory) => void) {
    this.#counters = counters;
    this.#free = free;
  }

  /** Memory of this size that the step under capture has given back. */
  reuse(sizeBytes: number): Memory | undefined {
    return this.#capture?.idle.get(sizeBytes)?.pop();
  }

  /** Notes that a new buffer of `bytes` bytes has this memory. */
  taken(memory: Memory, bytes: number): void {
    this.#counters.allocated(bytes);
    this.#capture?.own.add(memory);
  }

  /** Notes what a captured launch uses. */
  captured(kernel: Kernel, views: readonly (BufferView | null)[], memoryOf: (view: BufferView) => Memory): void {
    const { used } = this.#capture as Capture<Memory>;
    views.forEach((view, index) => {
      if (view === null) return;
      const memory = memoryOf(view);
      if (!used.has(memory)) used.set(memory, { kernel, view, index });
    });
  }

  /** Notes that the buffer of this memory was released. */
  release(memory: Memory, bytes: number): void {
    const capture = this.#capture;
    if (capture?.own.has(memory) === true) {
      this.#counters.released(bytes);
      const list = capture.idle.get(memory.sizeBytes);
      if (list === undefined) capture.idle.set(memory.sizeBytes, [memory]);
      else list.push(memory);
      return;
    }
    const users = this.#users.get(memory);
    for (const program of users ?? []) program.lost ??= program.borrowed.get(memory) ?? null;
    if (users !== undefined || capture?.used.has(memory) === true) this.#kept.set(memory, bytes);
    else this.#end(memory, bytes);
  }

  /**
   * Runs a step whose launches the backend records, and keeps the memory that they use until the program is disposed.
   * @param record what the backend has recorded, once the step has run
   */
  capture(step: () => void, record: () => { launches: number; replay: () => void; dispose?: () => void }): Program {
    if (this.#capture !== null) throw new BackendError('capture: already capturing');
    const capture = new Capture<Memory>();
    this.#capture = capture;
    let completed = false;
    try {
      step();
      completed = true;
    } finally {
      this.#capture = null;
      if (!completed) this.#dispose(this.#borrow(capture));
    }
    const memory = this.#borrow(capture);
    const { launches, replay, dispose } = record();
    let disposed = false;
    return disposable({
      launches,
      replay: () => {
        if (disposed) throw new DisposedError('replay: the program was disposed');
        if (memory.lost !== null) throw lost(memory.lost);
        replay();
      },
      dispose: () => {
        if (disposed) return;
        disposed = true;
        this.#dispose(memory);
        dispose?.();
      },
    });
  }

  /** From now on nothing is freed one by one: the backend is about to free everything. */
  close(): void {
    this.#closed = true;
  }

  #borrow({ idle, used }: Capture<Memory>): ProgramMemory<Memory> {
    const owned = [...idle.values()].flat();
    const borrowed = new Map(used);
    for (const memory of owned) borrowed.delete(memory);
    const program: ProgramMemory<Memory> = { owned, borrowed, lost: null };
    for (const memory of borrowed.keys()) {
      const users = this.#users.get(memory);
      if (users === undefined) this.#users.set(memory, new Set([program]));
      else users.add(program);
    }
    return program;
  }

  #dispose(program: ProgramMemory<Memory>): void {
    if (!this.#closed) for (const memory of program.owned) this.#free(memory);
    for (const memory of program.borrowed.keys()) {
      const users = this.#users.get(memory);
      users?.delete(program);
      if (users?.size !== 0) continue;
      this.#users.delete(memory);
      const bytes = this.#kept.get(memory);
      if (bytes === undefined) continue;
      this.#kept.delete(memory);
      this.#end(memory, bytes);
    }
  }

  #end(memory: Memory, bytes: number): void {
    this.#counters.released(bytes);
    if (!this.#closed) this.#free(memory);
  }
}

function lost({ kernel, view: { buffer }, index }: FirstUse): DisposedError {
  const name = Object.keys(kernel.buffers)[index] ?? '';
  return new DisposedError(
    `replay: a tensor of the captured step was freed: '${name}' of ${kernel.name}, ${buffer.dtype}, ${buffer.size} numbers. ` +
      'Hint: capture the step again; a decoder is made again where its model’s weights were freed or moved, as a trainer does',
  );
}
