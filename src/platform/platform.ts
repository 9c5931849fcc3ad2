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
  /** Names this version of the file: where it really is, its size and when it was last written; undefined where nobody tells. */
  readonly stamp?: string;
  /** Bytes [offset, offset + length). Rejects when the range is not inside the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /**
   * What has changed about the file since it was opened, in words for a message: its size, or when it was last written; undefined
   * where nothing has, as far as the file system or the server tells. A file that was replaced by renaming another is unchanged:
   * the open one is still the old one.
   */
  changed(): Promise<string | undefined>;
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

/** An answer of a local server: all of it at once, or text that comes piece by piece. */
export interface LocalResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Pieces are asked for as fast as the client takes them; `return` is called when it has gone. */
  readonly body: Uint8Array | string | AsyncGenerator<string, void, void>;
}

/** A request to a local server; header names are in lower case. */
export interface LocalRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

/** An HTTP server that only programs of this machine reach. */
export interface LocalServer {
  readonly port: number;
  /** Takes no more requests, gives those under way a second to end, and cuts off the rest. */
  close(): Promise<void>;
}

/** A file that is whole beside its place. */
export interface StagedFile {
  /** Renames it to its place: old or new, never half. @throws FileError */
  place(): Promise<void>;
  /** Removes it instead. */
  discard(): Promise<void>;
}

/** Who uses a folder. */
export interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** When it began to, in ISO 8601. */
  readonly since: string;
  /** What it does there. */
  readonly command: string;
}

/** A folder that no other process may write to. */
export interface FolderLock {
  /** Takes the lock away, and the folder with it where the lock made it and nothing else is inside. The process's end does the same. */
  release(): void;
}

export interface Platform {
  readonly kind: 'node' | 'browser';
  /** Number of processors this process may use. */
  readonly processors: number;
  /** Memory that this process may use, in bytes; Infinity where nobody tells. */
  readonly memoryBytes: number;
  /** Opens a local path (Node) or a URL (browser; HTTP range requests, or the whole file where the server has none). */
  openFile(path: string): Promise<RandomAccessFile>;
  /** The whole file as bytes. */
  readFile(path: string): Promise<Uint8Array>;
  /** `stageFile`, and places it: old or new, never half. @throws FileError naming the file and why it cannot be written */
  writeFileAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void>;
  /**
   * Writes all of `chunks` to a temporary neighbour of `path`, `<path>.tmp-<process id>`, and syncs it. Several files that belong
   * together are staged before any is placed: what can fail for lack of space has then been done.
   * @throws FileError; the neighbour is then gone
   */
  stageFile(path: string, chunks: Iterable<Uint8Array>): Promise<StagedFile>;
  /** Whether `path` exists: 'file', 'folder' or undefined. */
  pathKind(path: string): Promise<'file' | 'folder' | undefined>;
  /** Makes a folder and those above it, where they are missing. @throws FileError */
  makeFolder(path: string): Promise<void>;
  /** The folder for what can be worked out again, by the habits of the system; undefined where there is none. It may not exist. */
  cacheFolder(): string | undefined;
  removeFile(path: string): Promise<void>;
  /** Removes a folder and all that is inside, where there is one. */
  removeFolder(path: string): Promise<void>;
  /** Renames a file or folder, within a file system. @throws FileError */
  movePath(from: string, to: string): Promise<void>;
  listFolder(path: string): Promise<string[]>;
  /** Joins path segments the way of this platform. */
  joinPath(...segments: string[]): string;
  /** The absolute path of `path`, from the folder `from` or the working folder. */
  absolutePath(path: string, from?: string): string;
  /** The way from one absolute path to another. */
  relativePath(from: string, to: string): string;
  /** @throws FileError */
  appendText(path: string, text: string): Promise<void>;
  /**
   * Makes a folder this process's own until the lock is released or the process ends, however it ends; makes the folder where it is
   * missing. A lock whose process has ended, on this machine, is taken over; of a process on another machine nobody can tell.
   * @param command what the process does, for the others' messages
   * @returns who has it, where another process does
   * @throws FileError where the folder cannot be made or written to
   */
  lockFolder(folder: string, command: string): Promise<FolderLock | LockOwner>;
  /** This machine's name. */
  readonly host: string;
  /** Whether a process of this id runs on this machine. */
  isRunning(pid: number): boolean;
  /** Loads the compiled kernels for this machine, or says why there are none. */
  loadAddon(): { addon: unknown } | { reason: string };
  /** The wasm kernels' bytes. */
  readWasm(): Promise<Uint8Array>;
  /** A file of the package, by its path in it. */
  readPackageFile(path: string): Promise<Uint8Array>;
  /** Where a file or folder of the package is, by its path in it: a path, in a browser a URL. */
  packagePath(path: string): string;
  /**
   * Serves HTTP on 127.0.0.1.
   * @param port 0: any that is free
   * @returns undefined where the port is taken
   */
  serveLocally(port: number, respond: (request: LocalRequest) => LocalResponse | Promise<LocalResponse>): Promise<LocalServer | undefined>;
  /** Starts the wasm worker, or returns undefined where shared memory may not be sent to workers. */
  startKernelWorker(): KernelWorker | undefined;
  /** WebGPU (`GPU`), or why there is none. */
  loadGpu(): Promise<{ gpu: unknown } | { reason: string }>;
}
