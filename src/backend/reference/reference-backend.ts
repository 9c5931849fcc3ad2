import { asyncDisposeSymbol } from '../../util/disposal.js';
import { BackendError, DisposedError } from '../../util/errors.js';
import {
  isPacked,
  type Backend,
  type BufferView,
  type DeviceBuffer,
  type DType,
  type HostArray,
  type Kernel,
  type Precision,
  type Program,
} from '../../tensor/index.js';
import { roundToHalf } from '../../util/half.js';
import { Counters } from '../counters.js';
import { MemoryLifetimes } from '../memory-lifetimes.js';

interface ReferenceBuffer extends DeviceBuffer {
  readonly sizeBytes: number;
  /** Null once its memory is free. */
  values: ReferenceArray | null;
}

type ReferenceArray = Float64Array | Int32Array | Uint8Array;

/** The memory a view covers, shared, not copied. */
function memory({ buffer, offset, size }: BufferView): ReferenceArray {
  const { values } = buffer as ReferenceBuffer;
  if (values === null) throw new DisposedError('reference backend: a launch uses a buffer that was released');
  return values.subarray(offset, offset + size);
}

function newArray(dtype: DType, size: number): ReferenceArray {
  try {
    return isPacked(dtype) ? new Uint8Array(size) : dtype === 'i32' ? new Int32Array(size) : new Float64Array(size);
  } catch (error) {
    throw new BackendError(`allocate: no memory for ${size} elements of ${dtype}`, { cause: error });
  }
}

/** Numbers are counted as float64, packed weights as the bytes they are. */
const sizeBytes = (dtype: DType, size: number) => (isPacked(dtype) ? size : 8 * size);

/**
 * The truth: every kernel's plain TypeScript declaration, in float64, at once. Slow by design.
 */
export class ReferenceBackend implements Backend {
  readonly kind = 'reference';
  readonly stepsAhead = 1;
  readonly workingBytes = 4 * 2 ** 20;
  readonly description = 'reference (float64, plain TypeScript)';
  readonly precision: Precision;
  readonly #counters = new Counters();
  readonly #poison: boolean;
  readonly #lifetimes = new MemoryLifetimes<ReferenceBuffer>(this.#counters, (buffer) => {
    buffer.values = null;
  });
  #recording: (() => void)[] | null = null;
  #closed = false;

  constructor(options: { poison?: boolean; precision?: Precision } = {}) {
    this.precision = options.precision ?? 'f32';
    this.#poison = options.poison ?? false;
  }

  allocate(dtype: DType, size: number): DeviceBuffer {
    this.#expectOpen('allocate');
    const values = newArray(dtype, size);
    if (this.#poison) values.fill(NaN);
    const buffer: ReferenceBuffer = { dtype, size, sizeBytes: sizeBytes(dtype, size), values };
    this.#lifetimes.taken(buffer, buffer.sizeBytes);
    return buffer;
  }

  upload(dtype: DType, size: number, data: () => ArrayLike<number>): DeviceBuffer {
    this.#expectNoCapture();
    // First, for it may throw.
    const values = data();
    const buffer = this.allocate(dtype, size);
    this.write({ buffer, offset: 0, size }, values);
    return buffer;
  }

  write(view: BufferView, data: ArrayLike<number>): void {
    this.#expectOpen('write');
    this.#expectNoCapture();
    // f16 tensors hold what such a number can, where it comes from the host; results stay as exact as they are.
    memory(view).set(view.buffer.dtype === 'f16' ? Array.from(data, roundToHalf) : data);
  }

  // Async, so that what is wrong rejects, as on the other backends.
  // eslint-disable-next-line @typescript-eslint/require-await
  async read(view: BufferView): Promise<HostArray> {
    const values = this.#readable(view);
    return values instanceof Float64Array ? new Float32Array(values) : values.slice();
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async readExact(view: BufferView): Promise<Float64Array> {
    return new Float64Array(this.#readable(view));
  }

  release(buffer: DeviceBuffer): void {
    this.#lifetimes.release(buffer as ReferenceBuffer, (buffer as ReferenceBuffer).sizeBytes);
  }

  supports(): boolean {
    return true;
  }

  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    this.#expectOpen(kernel.name);
    this.#counters.launches++;
    const buffers: Record<string, ReferenceArray | null> = {};
    Object.keys(kernel.buffers).forEach((name, i) => {
      const view = views[i];
      buffers[name] = view ? memory(view) : null;
    });
    const values: Record<string, number | boolean> = {};
    Object.entries(kernel.parameters).forEach(([name, kind], i) => {
      const value = parameters[i] ?? 0;
      values[name] = kind === 'flag' ? value !== 0 : value;
    });
    const run = () => {
      kernel.reference(buffers as never, values as never);
    };
    if (this.#recording === null) {
      run();
      return;
    }
    this.#recording.push(run);
    this.#lifetimes.captured(kernel, views, ({ buffer }) => buffer as ReferenceBuffer);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async synchronize(): Promise<void> {
    this.#expectOpen('synchronize');
  }

  capture(step: () => void): Program {
    this.#expectOpen('capture');
    const launches: (() => void)[] = [];
    const recorded = () => {
      this.#recording = launches;
      try {
        step();
      } finally {
        this.#recording = null;
      }
    };
    return this.#lifetimes.capture(recorded, () => {
      const replay = () => {
        this.#expectOpen('replay');
        this.#counters.launches += launches.length;
        for (const run of launches) run();
      };
      return { launches: launches.length, replay };
    });
  }

  statistics() {
    return this.#counters.statistics();
  }

  resetStatistics(): void {
    this.#counters.reset();
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  #expectNoCapture(): void {
    if (this.#recording !== null) throw new BackendError('capture: the step writes from the host. Hint: write before replay()');
  }

  [asyncDisposeSymbol](): Promise<void> {
    return this.close();
  }

  #readable(view: BufferView) {
    this.#expectOpen('read');
    if (this.#recording !== null) throw new BackendError('capture: the step reads results. Hint: read after replay()');
    return memory(view);
  }

  #expectOpen(operation: string): void {
    if (this.#closed) throw new DisposedError(`${operation}: the backend was closed`);
  }
}
