import { open, readFile as readWholeFile, readdir, realpath, stat } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, homedir, hostname, totalmem } from 'node:os';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { ArgumentError } from '../util/errors.js';
import { nativeBuild } from '../util/native-build.js';
import { appendText, makeFolder, movePath, removeFile, removeFolder, stageFile, writeFileAtomically } from './node-files.js';
import { isRunning, lockFolder } from './node-lock.js';
import { serveLocally } from './node-server.js';
import type { KernelWorker, Platform, RandomAccessFile } from './platform.js';

/** The package's folder: this file is two levels below it, in `src/platform` as in `dist/platform`. */
const packageRoot = new URL('../../', import.meta.url);

/** The version in package.json. */
export function packageVersion(): string {
  const { version } = createRequire(import.meta.url)(fileURLToPath(new URL('package.json', packageRoot))) as { version: string };
  return version;
}

async function openFile(path: string): Promise<RandomAccessFile> {
  const handle = await open(path, 'r');
  const { size: sizeBytes, mtimeMs } = await handle.stat();
  return {
    name: path,
    sizeBytes,
    descriptor: handle.fd,
    stamp: `${await realpath(path)} ${sizeBytes} ${mtimeMs}`,
    async read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > sizeBytes) {
        throw new ArgumentError(
          `read: bytes [${offset}, ${offset + length}) are outside ${path} (${sizeBytes} bytes)`,
        );
      }
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 1 << 30), offset + done);
        if (bytesRead === 0) throw new ArgumentError(`read: ${path} became shorter while it was read`);
        done += bytesRead;
      }
      return bytes;
    },
    async changed() {
      const now = await handle.stat();
      if (now.size !== sizeBytes) return `its size was ${sizeBytes} bytes and is ${now.size}`;
      return now.mtimeMs === mtimeMs ? undefined : `it was written to at ${now.mtime.toISOString()}`;
    },
    close: () => handle.close(),
  };
}

/** As the XDG base directory specification has it, and Windows and macOS. */
function cacheFolder(): string | undefined {
  const { XDG_CACHE_HOME: xdg = '', LOCALAPPDATA: windows = '' } = process.env;
  if (isAbsolute(xdg)) return join(xdg, 'elapid');
  if (process.platform === 'win32') return isAbsolute(windows) ? join(windows, 'elapid', 'cache') : undefined;
  const home = homedir();
  return isAbsolute(home) ? join(home, process.platform === 'darwin' ? 'Library/Caches' : '.cache', 'elapid') : undefined;
}

function loadAddon(): { addon: unknown } | { reason: string } {
  const file = fileURLToPath(new URL('build/elapid.node', packageRoot));
  if (!existsSync(file)) {
    return { reason: `no native kernels were built for this machine (${nativeBuild}, with a C++ compiler, builds them)` };
  }
  try {
    return { addon: createRequire(import.meta.url)(file) as unknown };
  } catch (error) {
    return { reason: `the native kernels do not load (to build them again: ${nativeBuild}): ${error instanceof Error ? error.message : String(error)}` };
  }
}

function startKernelWorker(): KernelWorker {
  const worker = new Worker(new URL('../backend/cpu/wasm-worker.js', import.meta.url));
  worker.unref();
  return {
    postMessage: (message) => {
      worker.postMessage(message);
    },
    onMessage: (listener) => {
      worker.on('message', listener);
      worker.unref();
    },
    onError: (listener) => void worker.on('error', listener),
    keepAlive: (on) => {
      if (on) worker.ref();
      else worker.unref();
    },
    terminate: () => void worker.terminate(),
  };
}

/**
 * Switches of Dawn: f16 and matrix units are experimental there, and timestamps are rounded to 0.1 ms unless told otherwise. Its
 * bounds on every index cost products of half precision up to a third; they are for this package's own tests, which ask for them
 * with ELAPID_GPU_CHECKS=1.
 */
function dawnFlags(): string[] {
  const checks = process.env['ELAPID_GPU_CHECKS'] === '1';
  return [
    `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia${checks ? '' : ',disable_robustness'}`,
    'disable-dawn-features=timestamp_quantization',
  ];
}

/** Dawn corrupts its heap when this object is collected: it stays for the life of the process. */
let dawn: GPU | undefined;

async function loadGpu(): Promise<{ gpu: GPU } | { reason: string }> {
  try {
    if (dawn === undefined) {
      const { create, globals } = await import('webgpu');
      Object.assign(globalThis, globals);
      dawn = create(dawnFlags());
    }
    return { gpu: dawn };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    return { reason: `the package webgpu does not load (${message}). Hint: npm install webgpu` };
  }
}

export const platform: Platform = {
  kind: 'node',
  processors: availableParallelism(),
  // Zero where nothing limits the process but the machine.
  memoryBytes: Math.min(totalmem(), process.constrainedMemory() || Infinity),
  openFile,
  readFile: (path) => readWholeFile(path),
  writeFileAtomically,
  stageFile,
  async pathKind(path) {
    const info = await stat(path).catch(() => undefined);
    return info === undefined ? undefined : info.isDirectory() ? 'folder' : 'file';
  },
  makeFolder,
  cacheFolder,
  removeFile,
  removeFolder,
  movePath,
  listFolder: (path) => readdir(path),
  joinPath: join,
  absolutePath: (path, from = '') => resolve(from, path),
  relativePath: relative,
  appendText,
  lockFolder,
  host: hostname(),
  isRunning,
  loadAddon,
  readWasm: () => readWholeFile(new URL('wasm/elapid.wasm', packageRoot)),
  readPackageFile: (path) => readWholeFile(new URL(path, packageRoot)),
  packagePath: (path) => fileURLToPath(new URL(path, packageRoot)),
  serveLocally,
  startKernelWorker,
  loadGpu,
};
