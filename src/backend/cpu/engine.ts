/** What is copied to and from device memory, as it lies there. */
export type DeviceArray = Float32Array | Int32Array | Uint8Array;

/** Memory and an in-order queue of command buffers: what the native addon and the wasm module both provide. */
export interface Engine {
  /** `native AVX-512 kernels, 2 threads` */
  readonly description: string;
  /** Signatures of the compiled kernels; the index is the kernel's number in a command buffer. */
  readonly signatures: readonly string[];
  /**
   * Allocates, 64-byte aligned.
   * @returns the address, or undefined when there is no memory
   */
  allocate(sizeBytes: number): number | undefined;
  free(address: number, sizeBytes: number): void;
  copyIn(address: number, data: DeviceArray): void;
  copyOut(address: number, data: DeviceArray): void;
  /** Maps a range of an open file and returns its address; undefined where that cannot be done. */
  mapFile?(descriptor: number, offset: number, sizeBytes: number): number | undefined;
  unmapFile?(address: number, sizeBytes: number): void;
  /** Appends the first `count` words; copies them before it returns. Submissions are numbered 1, 2, … */
  submit(words: Float64Array, count: number, notify: boolean): void;
  /** How many submissions are finished. */
  completed(): number;
  /** Nanoseconds spent in each kernel so far, in the order of `signatures`; where the engine measures them. */
  kernelTimes?(): number[];
  /** Calls the listener after each finished submission that asked for it. */
  onCompleted(listener: () => void): void;
  /** Calls the listener when the engine has died. */
  onFailed(listener: (error: Error) => void): void;
  /** Whether work under way keeps the process from ending. */
  keepAlive(on: boolean): void;
  close(): Promise<void>;
}
