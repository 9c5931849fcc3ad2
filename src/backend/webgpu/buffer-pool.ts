import { sizeClass } from '../size-class.js';

/** A block of GPU memory; `id` names it in the keys of bind groups. */
export interface GpuBlock {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly sizeBytes: number;
}

/** Bytes of the block for so many: bindings and copies are rounded up to whole vectors. */
export const blockSize = (sizeBytes: number): number => Math.max(256, sizeClass(sizeBytes));

/**
 * Blocks by size class, reused at once: the stream is in order, so a launch that reuses a block comes after those that used it
 * before. The oldest idle block is taken, so that steps that repeat get the same blocks, for which bind groups are there. What was once needed is kept, for the next step needs it again, and a new buffer costs more than its use: WebGPU fills
 * it with zeros.
 */
export class GpuBufferPool {
  readonly #device: GPUDevice;
  readonly #free = new Map<number, GpuBlock[]>();
  readonly #used = new Set<GpuBlock>();
  #freeBytes = 0;
  #usedBytes = 0;
  #mostUsedBytes = 0;
  #nextId = 1;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  take(sizeBytes: number): GpuBlock {
    const size = blockSize(sizeBytes);
    // The last of a list is the one of the lowest id.
    let block = this.#free.get(size)?.pop();
    if (block === undefined) {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      block = { id: this.#nextId++, buffer: this.#device.createBuffer({ size, usage }), sizeBytes: size };
    } else {
      this.#freeBytes -= size;
    }
    this.#used.add(block);
    this.#usedBytes += size;
    this.#mostUsedBytes = Math.max(this.#mostUsedBytes, this.#usedBytes);
    return block;
  }

  give(block: GpuBlock): void {
    this.#used.delete(block);
    this.#usedBytes -= block.sizeBytes;
    this.#freeBytes += block.sizeBytes;
    const list = this.#free.get(block.sizeBytes);
    if (list === undefined) {
      this.#free.set(block.sizeBytes, [block]);
      return;
    }
    let at = list.length;
    while (at > 0 && (list[at - 1] as GpuBlock).id < block.id) at--;
    list.splice(at, 0, block);
  }

  /** Whether sizes have changed so much that old blocks should go: half as much again as was ever in use, and 256 MiB. */
  get crowded(): boolean {
    return this.#freeBytes + this.#usedBytes > 1.5 * this.#mostUsedBytes + 256 * 2 ** 20;
  }

  /** Destroys idle blocks. Everything that uses them must have been submitted. */
  trim(): void {
    for (const { buffer } of [...this.#free.values()].flat()) buffer.destroy();
    this.#free.clear();
    this.#freeBytes = 0;
  }

  /** Destroys all blocks. */
  destroy(): void {
    this.trim();
    for (const { buffer } of this.#used) buffer.destroy();
    this.#used.clear();
    this.#usedBytes = 0;
  }
}
