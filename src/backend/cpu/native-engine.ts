import type { DeviceArray, Engine } from './engine.js';

/** What build/elapid.node exports; see native/addon.cc. */
export interface Addon {
  allocate(sizeBytes: number): number;
  free(address: number): void;
  copyIn(address: number, data: DeviceArray): void;
  copyOut(address: number, data: DeviceArray): void;
  mapFile(descriptor: number, offset: number, sizeBytes: number): number;
  unmapFile(address: number, sizeBytes: number): void;
  targets(): string[];
  /** The unit that multiplies bfloat16 beside the AVX-512 kernels, or an empty string. */
  bf16Unit(): string;
  signatures(): string[];
  open(target: string, threads: number, onCompleted: () => void): object;
  submit(engine: object, words: Float64Array, count: number, notify: boolean): void;
  completed(engine: object): number;
  kernelTimes(engine: object): number[];
  keepAlive(engine: object, on: boolean): void;
  close(engine: object): void;
}

const targetNames: Readonly<Record<string, string>> = { sse2: 'SSE2', avx2: 'AVX2', avx512: 'AVX-512', neon: 'NEON' };

/** Opens an engine on the compiled kernels for `target` (one of `addon.targets()`). */
export function openNativeEngine(addon: Addon, target: string, threads: number): Engine {
  let listener: () => void = () => undefined;
  const engine = addon.open(target, threads, () => {
    listener();
  });
  const unit = target === 'avx512' ? addon.bf16Unit() : '';
  return {
    description: `native ${targetNames[target] ?? target}${unit === '' ? '' : ` + ${unit}`} kernels, ${String(threads)} thread${threads === 1 ? '' : 's'}`,
    signatures: addon.signatures(),
    allocate: (sizeBytes) => addon.allocate(sizeBytes) || undefined,
    free: (address) => {
      addon.free(address);
    },
    copyIn: (address, data) => {
      addon.copyIn(address, data);
    },
    copyOut: (address, data) => {
      addon.copyOut(address, data);
    },
    mapFile: (descriptor, offset, sizeBytes) => addon.mapFile(descriptor, offset, sizeBytes) || undefined,
    unmapFile: (address, sizeBytes) => {
      addon.unmapFile(address, sizeBytes);
    },
    submit: (words, count, notify) => {
      addon.submit(engine, words, count, notify);
    },
    completed: () => addon.completed(engine),
    kernelTimes: () => addon.kernelTimes(engine),
    onCompleted: (callback) => {
      listener = callback;
    },
    onFailed: () => undefined,
    keepAlive: (on) => {
      addon.keepAlive(engine, on);
    },
    close: () => {
      addon.close(engine);
      return Promise.resolve();
    },
  };
}
