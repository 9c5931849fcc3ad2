import type { DType, HostArray } from './dtype.js';
import type { Kernel } from './kernel.js';

/**
 * What a backend computes in. 'f32': float32 throughout. 'bf16' (CPU and reference) and 'f16' (WebGPU and reference) round both
 * factors of matrix products with more than 8 rows to 8 or 11 significant bits (f16 up to 65504); sums stay float32. With 'f16',
 * models also keep activations and their gradients in f16, and a trainer scales the loss: mixed precision. Parameters stay f32.
 */
export type Precision = 'f32' | 'bf16' | 'f16';

/** Device memory of one allocation. Only its backend knows what is behind it. */
export interface DeviceBuffer {
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
}

/** A part of a buffer, from element `offset` on, `size` elements long. */
export interface BufferView {
  readonly buffer: DeviceBuffer;
  readonly offset: number;
  readonly size: number;
}

/** What a backend counts. */
export interface BackendStatistics {
  /** Buffers allocated and not yet released. */
  readonly liveBuffers: number;
  readonly liveBytes: number;
  /** The most bytes live at one time since the backend was opened or the statistics were reset. */
  readonly peakBytes: number;
  readonly launches: number;
}

/** The launches of one step, recorded to be replayed without JavaScript per operation. */
export interface Program extends Disposable {
  readonly launches: number;
  /**
   * Appends the recorded launches to the stream. Reads and writes the same memory as when they were recorded.
   * @throws DisposedError when the program was disposed, or a buffer that its launches use was released since
   */
  replay(): void;
  /** Frees the memory the program owns, and what was released meanwhile of the memory its launches use. Harmless when repeated. */
  dispose(): void;
}

/**
 * A backend is device memory and one in-order command stream. `launch`, `write` and `release` return at once and take
 * effect in order; `read` and `synchronize` wait for everything before them.
 */
export interface Backend extends AsyncDisposable {
  /** 'reference', 'cpu', 'webgpu', 'plan', … */
  readonly kind: string;
  /** What is behind it, for people: `cpu (native AVX-512 kernels, 2 threads)`. */
  readonly description: string;
  /** What matrix products round their factors to, and whether models compute in mixed precision. */
  readonly precision: Precision;
  /** Bytes of intermediate results worth having at one time: what a cache keeps, or what fills a GPU. */
  readonly workingBytes: number;
  /** Steps of decoding worth queueing before their results are read; 1 where a read costs little. */
  readonly stepsAhead: number;
  /** Allocates; the contents are undefined (NaN where the backend was opened with `poison`). */
  allocate(dtype: DType, size: number): DeviceBuffer;
  /** Allocates and fills; `data` may be called late, or never by a backend that holds no values. */
  upload(dtype: DType, size: number, data: () => ArrayLike<number>): DeviceBuffer;
  /** Overwrites a view, in stream order. */
  write(view: BufferView, data: ArrayLike<number>): void;
  /**
   * The view's values after everything launched so far.
   * @param into what an earlier `read` of as large a view gave: may be filled and returned, which saves making an array
   */
  read(view: BufferView, into?: HostArray): Promise<HostArray>;
  /** The view's values as it computes with them, of a backend that computes in float64. */
  readExact?(view: BufferView): Promise<Float64Array>;
  /** Gives the buffer back; launches already in the stream may still use it. Its memory stays while a program uses it. */
  release(buffer: DeviceBuffer): void;
  /** Whether this backend has the kernel; operations that can do without compose theirs of others. */
  supports(kernel: Pick<Kernel, 'signature' | 'optional' | 'needs' | 'webgpu'>): boolean;
  /** Launches a kernel: views in the order of `kernel.buffers`, numbers in the order of `kernel.parameters`. */
  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void;
  /** Resolves when everything launched so far is done. */
  synchronize(): Promise<void>;
  /**
   * Runs `step` and records its launches instead of executing them.
   * @throws BackendError when `step` uploads or reads
   */
  capture(step: () => void): Program;
  statistics(): BackendStatistics;
  /** Sets `launches` to zero and `peakBytes` to what is live. */
  resetStatistics(): void;
  /**
   * Waits for the stream and for reads under way, frees all memory, ends the threads. From the call on, everything that would use
   * the backend throws DisposedError; tensors, models and programs may still be disposed.
   */
  close(): Promise<void>;
}

/** A backend that can use a file's pages as device memory. */
export interface MappingBackend extends Backend {
  /**
   * A buffer over `size` elements of an open file from byte `offset` on, read when they are first used; undefined where
   * the platform cannot map files. The file may be closed afterwards; the range must be inside of it.
   */
  mapFile(descriptor: number, offset: number, dtype: DType, size: number): DeviceBuffer | undefined;
}
