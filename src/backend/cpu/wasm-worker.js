// One thread of the wasm engine: the executor (index 0), which runs command buffers as messages bring them, or a worker of
// its pool, which waits inside the module for tasks. Plain JavaScript, because a worker is started from its file.

/** @typedef {{ module: WebAssembly.Module, memory: WebAssembly.Memory, thread: number, stackTop: number }} Start */
/** @typedef {{ words: number, count: number, number: number }} Submission */

/** @type {{ postMessage(message: unknown): void, listen(receive: (message: any) => void): void }} */
let port;
if (typeof process === 'object' && typeof process.versions?.node === 'string') {
  const { parentPort } = await import('node:worker_threads');
  if (parentPort === null) throw new Error('wasm-worker: not a worker');
  port = {
    postMessage: (message) => parentPort.postMessage(message),
    listen: (receive) => void parentPort.on('message', receive),
  };
} else {
  port = {
    postMessage: (message) => globalThis.postMessage(message),
    listen: (receive) => globalThis.addEventListener('message', (event) => receive(event.data)),
  };
}

/** @type {any} */
let kernels;

port.listen((message) => {
  if (kernels === undefined) {
    const { module, memory, thread, stackTop } = /** @type {Start} */ (message);
    kernels = new WebAssembly.Instance(module, { env: { memory } }).exports;
    kernels.__stack_pointer.value = stackTop;
    port.postMessage('ready');
    if (thread > 0) kernels.work(thread);
    return;
  }
  const { words, count, number } = /** @type {Submission} */ (message);
  kernels.execute(words, count);
  port.postMessage(number);
});
