/**
 * What the package needs from its surroundings. `node.ts` and `browser.ts` implement it; the `#platform` import picks one.
 * No other folder may name `node:` modules or `navigator`.
 */

/** A file that is read in pieces, at most `sizeBytes` long. */
export interface RandomAccessFile {
  /** Path or URL, for messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The operating system's number of the open file, where there is one: to map it. */
  readonly descriptor?: number;
  /** Bytes [offset, offset + length). Rejects when the range is not inside the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A worker that runs the wasm kernels. */
export interface KernelWorker {
  postMessage(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  onError(listener: (error: Error) => void): void;
  /** Whether the worker keeps the process alive (no effect in a browser). */
  keepAlive(on: boolean): void;
  terminate(): void;
}

export interface Platform {
  readonly kind: 'node' | 'browser';
  /** Number of processors this process may use. */
  readonly processors: number;
  /** Opens a local path (Node) or a URL (browser; HTTP range requests, or the whole file where the server has none). */
  openFile(path: string): Promise<RandomAccessFile>;
  /** The whole file as bytes. */
  readFile(path: string): Promise<Uint8Array>;
  /** Writes all of `chunks` to a temporary neighbour, syncs it, then renames it over `path`: old or new, never half. */
  writeFileAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void>;
  /** Whether `path` exists: 'file', 'folder' or undefined. */
  pathKind(path: string): Promise<'file' | 'folder' | undefined>;
  makeFolder(path: string): Promise<void>;
  removeFile(path: string): Promise<void>;
  listFolder(path: string): Promise<string[]>;
  /** Joins path segments the way of this platform. */
  joinPath(...segments: string[]): string;
  appendText(path: string, text: string): Promise<void>;
  /** Loads the compiled kernels for this machine, or says why there are none. */
  loadAddon(): { addon: unknown } | { reason: string };
  /** The wasm kernels' bytes. */
  readWasm(): Promise<Uint8Array>;
  /** Starts the wasm worker, or returns undefined where shared memory may not be sent to workers. */
  startKernelWorker(): KernelWorker | undefined;
  /** WebGPU, or why there is none. */
  loadGpu(): Promise<{ gpu: GPU } | { reason: string }>;
}
