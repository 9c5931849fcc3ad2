import { BackendError } from '../../util/errors.js';
import { sizeClass } from '../size-class.js';
import type { Engine } from './engine.js';

/** A block of device memory. */
export interface Block {
  readonly address: number;
  readonly sizeBytes: number;
  /** The submission after which no launch uses it any more. */
  busyUntil: number;
}

/** The pool remembers the most memory in use over this many allocations. A pass through a model of many layers makes fewer. */
const span = 4096;
const leastKept = 64 * 2 ** 20;

/**
 * Blocks by size class, reused at once: the stream is in order, so a launch that reuses a block comes after the launches
 * that used it before. Only the host must wait for `busyUntil` before it writes to a block.
 */
export class BufferPool {
  readonly #engine: Engine;
  readonly #free = new Map<number, Block[]>();
  readonly #used = new Set<Block>();
  #freeBytes = 0;
  #usedBytes = 0;
  #taken = 0;
  /** The most bytes in use at once in this span of allocations, and in the span before. */
  #peaks: readonly [number, number] = [0, 0];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * @param idle whether the host is going to write to the block now
   * @throws BackendError when there is no memory
   */
  take(sizeBytes: number, idle: boolean): Block {
    const size = sizeClass(sizeBytes);
    const list = this.#free.get(size);
    const completed = idle ? this.#engine.completed() : Infinity;
    const index = list?.findLastIndex((block) => block.busyUntil <= completed) ?? -1;
    const reused = index < 0 ? undefined : list?.splice(index, 1)[0];
    if (reused !== undefined) {
      this.#freeBytes -= size;
      this.#use(reused);
      return reused;
    }
    let address = this.#engine.allocate(size);
    if (address === undefined) {
      this.trim(0);
      address = this.#engine.allocate(size);
    }
    if (address === undefined) {
      const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
      throw new BackendError(
        `allocate: no memory for ${mebibytes(size)} (${mebibytes(this.#usedBytes)} in use). ` +
          'Hint: a smaller batch or chunk, or scope() around intermediate results',
      );
    }
    const block: Block = { address, sizeBytes: size, busyUntil: 0 };
    this.#use(block);
    return block;
  }

  #use(block: Block): void {
    this.#used.add(block);
    this.#usedBytes += block.sizeBytes;
    const [present, before] = this.#peaks;
    this.#peaks = ++this.#taken % span === 0 ? [this.#usedBytes, present] : [Math.max(present, this.#usedBytes), before];
  }

  give(block: Block, busyUntil: number): void {
    block.busyUntil = busyUntil;
    this.#used.delete(block);
    const list = this.#free.get(block.sizeBytes);
    if (list === undefined) this.#free.set(block.sizeBytes, [block]);
    else list.push(block);
    this.#freeBytes += block.sizeBytes;
    this.#usedBytes -= block.sizeBytes;
    // Keep what was lately in use at once: the next pass through a model, or step of training, takes it again. Memory new from the system costs
    // more than what is computed in it.
    const lately = Math.max(...this.#peaks, leastKept);
    if (this.#freeBytes + this.#usedBytes > 1.5 * lately) this.trim(lately - this.#usedBytes);
  }

  /** Gives everything back, blocks in use as well; nothing may be running. */
  freeAll(): void {
    for (const block of [...this.#used, ...[...this.#free.values()].flat()]) this.#engine.free(block.address, block.sizeBytes);
    this.#used.clear();
    this.#free.clear();
  }

  /** Gives idle blocks back to the system until at most `keepBytes` are kept. */
  trim(keepBytes: number): void {
    const completed = this.#engine.completed();
    for (const [size, list] of this.#free) {
      const kept: Block[] = [];
      for (const block of list) {
        if (this.#freeBytes > keepBytes && block.busyUntil <= completed) {
          this.#engine.free(block.address, size);
          this.#freeBytes -= size;
        } else {
          kept.push(block);
        }
      }
      if (kept.length === 0) this.#free.delete(size);
      else this.#free.set(size, kept);
    }
  }
}
