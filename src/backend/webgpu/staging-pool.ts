/** Buffers of a size that are kept: reads of logits, token after token, need no more. */
const keptOfSize = 4;
/** Larger ones are not kept. */
const mostKeptBytes = 2 ** 24;

/** Buffers that results are read through. */
export class StagingPool {
  readonly #device: GPUDevice;
  readonly #idle = new Map<number, GPUBuffer[]>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  take(sizeBytes: number): GPUBuffer {
    // Few sizes: powers of two.
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(sizeBytes)));
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return this.#idle.get(size)?.pop() ?? this.#device.createBuffer({ size: size > mostKeptBytes ? sizeBytes : size, usage });
  }

  give(buffer: GPUBuffer): void {
    buffer.unmap();
    const list = this.#idle.get(buffer.size) ?? [];
    if (buffer.size > mostKeptBytes || list.length >= keptOfSize) {
      buffer.destroy();
      return;
    }
    list.push(buffer);
    this.#idle.set(buffer.size, list);
  }

  destroy(): void {
    for (const buffer of [...this.#idle.values()].flat()) buffer.destroy();
    this.#idle.clear();
  }
}
