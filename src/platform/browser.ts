import { ArgumentError } from '../util/errors.js';
import type { KernelWorker, Platform, RandomAccessFile } from './platform.js';

async function fetched(path: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(path, init);
  if (!response.ok) throw new ArgumentError(`fetch: ${path} gives status ${response.status}`);
  return response;
}

/** What a server says of a file's version: compared, not understood. */
const versionOf = ({ headers }: Response): string => `${headers.get('ETag') ?? ''} ${headers.get('Last-Modified') ?? ''}`;

async function openFile(path: string): Promise<RandomAccessFile> {
  // Ask for the first byte: a server that knows ranges answers 206 with the whole size, others with the whole file.
  const probe = await fetched(path, { headers: { Range: 'bytes=0-0' } });
  const total = /\/(\d+)$/.exec(probe.headers.get('Content-Range') ?? '')?.[1];
  if (probe.status === 206 && total !== undefined) {
    await probe.body?.cancel();
    const version = versionOf(probe);
    return {
      name: path,
      sizeBytes: Number(total),
      ...(version.trim() === '' ? {} : { stamp: `${path} ${total} ${version}` }),
      async read(offset, length) {
        if (length === 0) return new Uint8Array();
        const range = `bytes=${offset}-${offset + length - 1}`;
        return expectLength(new Uint8Array(await (await fetched(path, { headers: { Range: range } })).arrayBuffer()), length, path);
      },
      async changed() {
        const now = await fetched(path, { method: 'HEAD' });
        return versionOf(now) === version ? undefined : 'the server has another version of it';
      },
      close: () => Promise.resolve(),
    };
  }
  const bytes = new Uint8Array(await probe.arrayBuffer());
  return {
    name: path,
    sizeBytes: bytes.length,
    read: (offset, length) => Promise.resolve(expectLength(bytes.subarray(offset, offset + length), length, path)),
    changed: () => Promise.resolve(undefined),
    close: () => Promise.resolve(),
  };
}

function expectLength(bytes: Uint8Array, length: number, path: string): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new ArgumentError(`read: ${path} gave ${bytes.length} bytes; expected ${length}`);
}

function unsupported(operation: string): never {
  throw new ArgumentError(`${operation}: a browser has no folders to write to and serves nothing`);
}

function startKernelWorker(): KernelWorker | undefined {
  if (!globalThis.crossOriginIsolated) return undefined;
  const worker = new Worker(new URL('../backend/cpu/wasm-worker.js', import.meta.url), { type: 'module' });
  return {
    postMessage: (message) => {
      worker.postMessage(message);
    },
    onMessage: (listener) => {
      worker.addEventListener('message', ({ data }) => {
        listener(data);
      });
    },
    onError: (listener) => {
      worker.addEventListener('error', ({ message }) => {
        listener(new Error(message));
      });
    },
    keepAlive: () => undefined,
    terminate: () => {
      worker.terminate();
    },
  };
}

export const platform: Platform = {
  kind: 'browser',
  processors: navigator.hardwareConcurrency,
  memoryBytes: Infinity,
  openFile,
  async readFile(path) {
    return new Uint8Array(await (await fetched(path)).arrayBuffer());
  },
  async pathKind(path) {
    // A folder is a URL prefix: only its files can be asked for.
    const response = await fetch(path, { method: 'HEAD' }).catch(() => undefined);
    return response?.ok === true ? 'file' : undefined;
  },
  joinPath: (...segments) => segments.map((segment, i) => (i === 0 ? segment.replace(/\/$/, '') : segment)).join('/'),
  writeFileAtomically: () => unsupported('writeFileAtomically'),
  stageFile: () => unsupported('stageFile'),
  makeFolder: () => unsupported('makeFolder'),
  cacheFolder: () => undefined,
  removeFile: () => unsupported('removeFile'),
  removeFolder: () => unsupported('removeFolder'),
  movePath: () => unsupported('movePath'),
  listFolder: () => unsupported('listFolder'),
  absolutePath: () => unsupported('absolutePath'),
  relativePath: () => unsupported('relativePath'),
  appendText: () => unsupported('appendText'),
  lockFolder: () => unsupported('lockFolder'),
  host: 'browser',
  isRunning: () => false,
  loadAddon: () => ({ reason: 'a browser runs the wasm kernels' }),
  async readWasm() {
    return new Uint8Array(await (await fetched(new URL('../../wasm/elapid.wasm', import.meta.url).href)).arrayBuffer());
  },
  readPackageFile: () => unsupported('readPackageFile'),
  packagePath: (path) => new URL(`../../${path}`, import.meta.url).href,
  serveLocally: () => unsupported('serveLocally'),
  startKernelWorker,
  loadGpu() {
    // Absent in older browsers and on pages that are not secure, whatever the types say.
    const { gpu } = navigator as Partial<Navigator>;
    return Promise.resolve(gpu === undefined ? { reason: 'this browser has none, or the page is not secure (https)' } : { gpu });
  },
};
