/** Dispatches there is room for in a submission: two timestamps each. */
const profiledDispatches = 2048;

/** Sums the GPU's time by kernel. */
export class GpuProfile {
  readonly #device: GPUDevice;
  readonly #set: GPUQuerySet;
  readonly #nanoseconds = new Map<string, number>();
  #kernels: string[] = [];
  #staging: GPUBuffer | null = null;
  #resolved: GPUBuffer | null = null;
  #pending: Promise<void>[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#set = device.createQuerySet({ type: 'timestamp', count: 2 * profiledDispatches });
  }

  nextPass(kernel: string): GPUComputePassDescriptor {
    const i = this.#kernels.length;
    if (i >= profiledDispatches) return {};
    this.#kernels.push(kernel);
    return { timestampWrites: { querySet: this.#set, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 } };
  }

  resolve(encoder: GPUCommandEncoder): void {
    const count = 2 * this.#kernels.length;
    if (count === 0) return;
    this.#resolved = this.#device.createBuffer({ size: 8 * count, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    this.#staging = this.#device.createBuffer({ size: 8 * count, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 8 * count);
  }

  submitted(): void {
    const [staging, resolved, kernels] = [this.#staging, this.#resolved, this.#kernels];
    this.#staging = null;
    this.#resolved = null;
    this.#kernels = [];
    if (staging === null) return;
    this.#pending.push(
      staging.mapAsync(GPUMapMode.READ).then(() => {
        const times = new BigUint64Array(staging.getMappedRange());
        kernels.forEach((kernel, i) => {
          const duration = Number((times[2 * i + 1] ?? 0n) - (times[2 * i] ?? 0n));
          this.#nanoseconds.set(kernel, (this.#nanoseconds.get(kernel) ?? 0) + duration);
        });
        staging.destroy();
        resolved?.destroy();
      }),
    );
  }

  /** Milliseconds by kernel, longest first, of everything submitted so far. */
  async times(): Promise<{ kernel: string; milliseconds: number }[]> {
    await Promise.all(this.#pending.splice(0));
    return [...this.#nanoseconds]
      .map(([kernel, nanoseconds]) => ({ kernel, milliseconds: nanoseconds / 1e6 }))
      .sort((a, b) => b.milliseconds - a.milliseconds);
  }
}
