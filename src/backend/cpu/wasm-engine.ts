import { platform } from '#platform';
import { BackendError } from '../../util/errors.js';
import type { KernelWorker } from '../../platform/platform.js';
import type { DeviceArray, Engine } from './engine.js';
import { threadCount } from './threads.js';
import { WasmHeap } from './wasm-heap.js';

/** What the module exports; see native/wasm.cc. */
interface KernelExports {
  readonly __heap_base: WebAssembly.Global<'i32'>;
  maxThreads(): number;
  scratchBytes(threads: number): number;
  initialise(threads: number, scratch: number): void;
  execute(words: number, count: number): void;
  kernelCount(): number;
  kernelSignature(kernel: number): number;
}

const stackBytes = 256 * 1024;
/** A worker of Node takes 8 MB and some 50 ms of a processor to start: 64 would need half a gigabyte before they compute. */
const mostWorkersUnasked = 16;
/** 4 GiB: all that 32-bit addresses reach. Only what is used is committed. */
const maximumPages = 65536;

/**
 * Opens an engine on the wasm kernels: in workers over shared memory, or, where shared memory may not be sent to workers (a
 * page that is not cross-origin isolated), on this thread, one submission at a time.
 * @param asked threads, or undefined for as many as serve
 */
export async function openWasmEngine(asked?: number): Promise<Engine> {
  const bytes = await platform.readWasm();
  const module = await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
  const memory = new WebAssembly.Memory({ initial: 64, maximum: maximumPages, shared: true });
  const kernels = (await WebAssembly.instantiate(module, { env: { memory } })).exports as unknown as KernelExports;
  const threads = threadCount(asked, platform.processors, { most: kernels.maxThreads(), unasked: mostWorkersUnasked });
  const heap = new WasmHeap(memory, kernels.__heap_base.value);
  const allocate = (sizeBytes: number, purpose: string): number => {
    const address = heap.allocate(sizeBytes);
    if (address === undefined) throw new BackendError(`wasm kernels: no memory for ${purpose}`);
    return address;
  };

  const signatures: string[] = [];
  for (let kernel = 0; kernel < kernels.kernelCount(); kernel++) {
    signatures.push(readText(memory, kernels.kernelSignature(kernel)));
  }

  const executor = platform.startKernelWorker();
  const used = executor === undefined ? 1 : threads;
  kernels.initialise(used, allocate(kernels.scratchBytes(used), 'scratch'));

  let completed = 0;
  let listener: () => void = () => undefined;
  let failed: (error: Error) => void = () => undefined;
  const workers: KernelWorker[] = [];
  let run: (words: number, count: number, finish: () => void) => void;

  if (executor === undefined) {
    run = (words, count, finish) => {
      kernels.execute(words, count);
      queueMicrotask(finish);
    };
  } else {
    const finishers = new Map<number, () => void>();
    let number = 0;
    workers.push(executor);
    for (let thread = 1; thread < used; thread++) workers.push(platform.startKernelWorker() as KernelWorker);
    const started = workers.map(
      (worker, thread) =>
        new Promise<void>((resolve, reject) => {
          worker.onError((error) => {
            const died = new BackendError(`wasm kernels: worker ${thread} of ${used} died: ${error.message}`, { cause: error });
            reject(died);
            failed(died);
          });
          worker.onMessage((message) => {
            if (message === 'ready') {
              worker.keepAlive(false);
              resolve();
            } else {
              const finish = finishers.get(message as number);
              finishers.delete(message as number);
              finish?.();
            }
          });
          worker.keepAlive(true);
          const stackTop = allocate(stackBytes, 'a stack') + stackBytes;
          worker.postMessage({ module, memory, thread, stackTop });
          // Pool workers answer before they begin to wait inside the module.
        }),
    );
    try {
      await Promise.all(started);
    } catch (error) {
      for (const worker of workers) worker.terminate();
      throw error;
    }
    run = (words, count, finish) => {
      finishers.set(++number, finish);
      executor.postMessage({ words, count, number });
    };
  }

  return {
    description: `wasm SIMD128 kernels, ${used} thread${used === 1 ? '' : 's'}`,
    signatures,
    allocate: (sizeBytes) => heap.allocate(sizeBytes),
    free: (address, sizeBytes) => {
      heap.free(address, sizeBytes);
    },
    copyIn: (address, data) => {
      viewLike(memory, data, address).set(data);
    },
    copyOut: (address, data) => {
      data.set(viewLike(memory, data, address));
    },
    submit(words, count, notify) {
      const sizeBytes = 8 * count;
      const address = allocate(sizeBytes, 'a command buffer');
      new Float64Array(memory.buffer, address, count).set(words.subarray(0, count));
      run(address, count, () => {
        completed++;
        heap.free(address, sizeBytes);
        if (notify) listener();
      });
    },
    completed: () => completed,
    onCompleted: (callback) => {
      listener = callback;
    },
    onFailed: (callback) => {
      failed = callback;
    },
    keepAlive: (on) => executor?.keepAlive(on),
    close() {
      for (const worker of workers) worker.terminate();
      return Promise.resolve();
    },
  };
}

function readText(memory: WebAssembly.Memory, address: number): string {
  const bytes = new Uint8Array(memory.buffer, address);
  // TextDecoder refuses shared memory: copy.
  return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
}

function viewLike(memory: WebAssembly.Memory, data: DeviceArray, address: number): DeviceArray {
  if (data instanceof Uint8Array) return new Uint8Array(memory.buffer, address, data.length);
  return data instanceof Float32Array
    ? new Float32Array(memory.buffer, address, data.length)
    : new Int32Array(memory.buffer, address, data.length);
}
