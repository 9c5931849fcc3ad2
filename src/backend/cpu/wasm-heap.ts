/**
 * Allocator for the wasm build's linear memory: free blocks by exact size (the pool above asks for a few hundred distinct
 * sizes, over and over), fresh ones from the top. Blocks never move or merge.
 */
export class WasmHeap {
  readonly #memory: WebAssembly.Memory;
  readonly #free = new Map<number, number[]>();
  #top: number;

  constructor(memory: WebAssembly.Memory, start: number) {
    this.#memory = memory;
    this.#top = align(start);
  }

  /** The address of `sizeBytes` bytes, 64-byte aligned, or undefined when the memory cannot grow that far. */
  allocate(sizeBytes: number): number | undefined {
    const size = align(Math.max(sizeBytes, 64));
    const reused = this.#free.get(size)?.pop();
    if (reused !== undefined) return reused;
    const end = this.#top + size;
    const missing = end - this.#memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.#memory.grow(Math.ceil(missing / 65536));
      } catch {
        return undefined;
      }
    }
    const address = this.#top;
    this.#top = end;
    return address;
  }

  free(address: number, sizeBytes: number): void {
    const size = align(Math.max(sizeBytes, 64));
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [address]);
    else list.push(address);
  }
}

const align = (bytes: number) => Math.ceil(bytes / 64) * 64;
