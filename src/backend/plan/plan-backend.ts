import { asyncDisposeSymbol, disposable } from '../../util/disposal.js';
import { BackendError } from '../../util/errors.js';
import { itemSize, type Backend, type BufferView, type DeviceBuffer, type DType, type HostArray, type Kernel, type Program } from '../../tensor/index.js';
import { Counters } from '../counters.js';

/** One launch as the plan backend saw it. */
export interface PlannedLaunch {
  readonly kernel: string;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Floating-point operations, an exp counted as one. */
  readonly operations: number;
}

/**
 * Executes nothing and holds no values: it records what would be launched and how many bytes the launches would move, at
 * best, for tests and for `elapid inspect`. A model of any size can be built on it in an instant.
 */
export class PlanBackend implements Backend {
  readonly kind = 'plan';
  readonly stepsAhead = 1;
  readonly workingBytes = 4 * 2 ** 20;
  readonly description = 'plan (records launches, computes nothing)';
  readonly precision = 'f32';
  readonly launches: PlannedLaunch[] = [];
  readonly #counters = new Counters();

  allocate(dtype: DType, size: number): DeviceBuffer {
    this.#counters.allocated(size * itemSize[dtype]);
    return { dtype, size };
  }

  upload(dtype: DType, size: number): DeviceBuffer {
    return this.allocate(dtype, size);
  }

  write(): void {
    // There are no values to write.
  }

  read(): Promise<HostArray> {
    return Promise.reject(new BackendError('read: the plan backend holds no values'));
  }

  release(buffer: DeviceBuffer): void {
    this.#counters.released(buffer.size * itemSize[buffer.dtype]);
  }

  /** What is fused only elsewhere is planned as the CPU runs it. */
  supports({ optional }: Pick<Kernel, 'optional'>): boolean {
    return !optional;
  }

  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    this.#counters.launches++;
    const named = Object.fromEntries(Object.keys(kernel.parameters).map((name, i) => [name, parameters[i] ?? 0]));
    const touched = kernel.touched(named);
    let bytesRead = 0;
    let bytesWritten = 0;
    Object.entries(kernel.buffers).forEach(([name, { access, dtype }], i) => {
      const elements = views[i]?.size ?? 0;
      const sizeBytes = Math.min(elements, touched[name] ?? elements) * itemSize[dtype];
      if (access !== 'out') bytesRead += sizeBytes;
      if (access !== 'in') bytesWritten += sizeBytes;
    });
    this.launches.push({ kernel: kernel.name, bytesRead, bytesWritten, operations: kernel.operations(named) });
  }

  synchronize(): Promise<void> {
    return Promise.resolve();
  }

  capture(step: () => void): Program {
    const first = this.launches.length;
    step();
    const recorded = this.launches.splice(first);
    return disposable({
      launches: recorded.length,
      replay: () => {
        this.launches.push(...recorded);
        this.#counters.launches += recorded.length;
      },
      dispose: () => undefined,
    });
  }

  statistics() {
    return this.#counters.statistics();
  }

  resetStatistics(): void {
    this.#counters.reset();
    this.launches.length = 0;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  [asyncDisposeSymbol](): Promise<void> {
    return this.close();
  }
}
