import { asyncDisposeSymbol } from '../../util/disposal.js';
import { BackendError, DisposedError } from '../../util/errors.js';
import {
  isPacked,
  itemSize,
  launchHalves,
  type Backend,
  type BufferView,
  type DeviceBuffer,
  type DType,
  type GpuFeatures,
  type HostArray,
  type Kernel,
  type Precision,
  type Program,
} from '../../tensor/index.js';
import { Counters } from '../counters.js';
import { copyRows, fill } from '../memory/kernels.js';
import { MemoryLifetimes } from '../memory-lifetimes.js';
import type { Limits } from './binding.js';
import { bindLaunch, withFloats, type BoundDispatch } from './bound-launch.js';
import { blockSize, GpuBufferPool, type GpuBlock } from './buffer-pool.js';
import type { GpuDevice } from './device.js';
import { ListMap } from './list-map.js';
import { Pipelines, uniformBytes, uniformWords, type CompilingPipeline } from './pipelines.js';
import { GpuProfile } from './profile.js';
import { LaunchPlans, type LaunchPlan } from './plan.js';
import { StagingPool } from './staging-pool.js';
import { GpuStream, type EncodedCopy, type EncodedDispatch } from './stream.js';

/** Launches kept with their bind groups until they come again. */
const mostBound = 8192;

interface GpuBuffer extends DeviceBuffer {
  readonly block: GpuBlock;
}

/** A captured step; its uniforms are put into the program's buffer at the end. */
type Captured = (BoundDispatch & { readonly fixed: CompilingPipeline }) | EncodedCopy;

/** Kernels in WGSL, on the GPU that WebGPU gives. */
export class WebGpuBackend implements Backend {
  readonly kind = 'webgpu';
  readonly stepsAhead = 16;
  readonly workingBytes = 256 * 2 ** 20;
  readonly description: string;
  readonly precision: Precision;
  readonly features: GpuFeatures;
  readonly #device: GPUDevice;
  readonly #hasTimestamps: boolean;
  readonly #pool: GpuBufferPool;
  readonly #staging: StagingPool;
  readonly #stream: GpuStream;
  readonly #counters = new Counters();
  readonly #poison: boolean;
  readonly #plans: LaunchPlans;
  readonly #bound = new ListMap<readonly BoundDispatch[]>();
  readonly #limits: Limits;
  #profile: GpuProfile | null = null;
  /** Why the device is of no use any more. */
  #failure: Error | null = null;
  #closing: Promise<void> | null = null;
  #closed = false;
  /** Reads under way. */
  readonly #reads = new Set<Promise<HostArray>>();
  readonly #lifetimes = new MemoryLifetimes<GpuBlock>(this.#counters, (block) => {
    this.#give(block);
  });
  #recording: { readonly entries: Captured[]; launches: number } | null = null;

  constructor(gpu: GpuDevice, options: { poison?: boolean; precision?: Precision } = {}) {
    this.#device = gpu.device;
    this.#hasTimestamps = gpu.timestamps;
    this.features = gpu.features;
    this.#poison = options.poison ?? false;
    this.precision = options.precision ?? 'f32';
    this.description = `webgpu (${gpu.description}${this.precision === 'f32' ? '' : `; ${this.precision} products`})`;
    this.#pool = new GpuBufferPool(gpu.device);
    this.#staging = new StagingPool(gpu.device);
    this.#plans = new LaunchPlans(gpu.features, new Pipelines(gpu.device));
    this.#stream = new GpuStream(gpu.device);
    // Asked for once: every look at a device's limits makes an object.
    const { minStorageBufferOffsetAlignment, maxBufferSize } = gpu.device.limits;
    this.#limits = { minStorageBufferOffsetAlignment, maxBufferSize, bindingBytes: gpu.features.bindingBytes };
    gpu.device.addEventListener('uncapturederror', ({ error }) => {
      const memory = error instanceof GPUOutOfMemoryError;
      const hint = memory ? '. Hint: a smaller batch or chunk, or scope() around intermediate results' : '';
      this.#fail(new BackendError(`webgpu: ${memory ? 'the GPU has no more memory: ' : ''}${error.message}${hint}`));
    });
    void gpu.device.lost.then(({ message }) => {
      this.#fail(new BackendError(`webgpu: the device was lost: ${message}. Hint: open a backend again and load the model again`));
    });
  }

  allocate(dtype: DType, size: number): DeviceBuffer {
    const buffer = this.#take(dtype, size);
    if (this.#poison && (dtype === 'f32' || dtype === 'f16')) {
      this.launch(fill as unknown as Kernel, [{ buffer, offset: 0, size }], [NaN, size]);
    }
    return buffer;
  }

  upload(dtype: DType, size: number, data: () => ArrayLike<number>): DeviceBuffer {
    if (this.#recording !== null) throw new BackendError('capture: the step uploads from the host. Hint: create inputs before');
    // First, for it may throw.
    const values = data();
    const buffer = this.#take(dtype, size);
    this.write({ buffer, offset: 0, size }, values);
    return buffer;
  }

  write(view: BufferView, data: ArrayLike<number>): void {
    this.#expectAlive('write');
    if (this.#recording !== null) throw new BackendError('capture: the step writes from the host. Hint: write before replay()');
    if (view.size === 0) return;
    const { dtype, block } = view.buffer as GpuBuffer;
    if (dtype === 'f16') {
      // The kernel that copies also converts.
      const staged = this.upload('f32', view.size, () => data);
      this.#copyNumbers({ buffer: staged, offset: 0, size: view.size }, view);
      this.release(staged);
      return;
    }
    // The values are copied now: the caller may change them before the stream comes to the write.
    const bytes = new Uint8Array(view.size * itemSize[dtype]);
    const values = dtype === 'f32' ? new Float32Array(bytes.buffer) : dtype === 'i32' ? new Int32Array(bytes.buffer) : bytes;
    values.set(data);
    this.#stream.write(block.buffer, view.offset * itemSize[dtype], bytes);
  }

  async read(view: BufferView, into?: HostArray): Promise<HostArray> {
    this.#expectAlive('read');
    if (this.#recording !== null) throw new BackendError('capture: the step reads results. Hint: read after replay()');
    const reading = this.#read(view, into);
    this.#reads.add(reading);
    try {
      return await reading;
    } finally {
      this.#reads.delete(reading);
    }
  }

  async #read(view: BufferView, into: HostArray | undefined): Promise<HostArray> {
    const { dtype, block } = view.buffer as GpuBuffer;
    if (view.size === 0) return hostArray(dtype, new ArrayBuffer(0));
    if (dtype === 'f16') {
      const converted = this.#take('f32', view.size);
      this.#copyNumbers(view, { buffer: converted, offset: 0, size: view.size });
      try {
        return await this.#read({ buffer: converted, offset: 0, size: view.size }, undefined);
      } finally {
        this.release(converted);
      }
    }
    const sizeBytes = view.size * itemSize[dtype];
    const staging = this.#staging.take(sizeBytes);
    try {
      this.#stream.copy({ from: block.buffer, fromOffset: view.offset * itemSize[dtype], to: staging, toOffset: 0, sizeBytes });
      await this.#stream.submitted();
      await staging.mapAsync(GPUMapMode.READ, 0, sizeBytes).catch((error: unknown) => {
        throw this.#failure ?? error;
      });
      if (this.#failure !== null) throw this.#failure;
      const mapped = staging.getMappedRange(0, sizeBytes);
      if (dtype !== 'f32' || !(into instanceof Float32Array) || into.length !== view.size) return hostArray(dtype, mapped.slice(0));
      into.set(new Float32Array(mapped));
      return into;
    } finally {
      this.#staging.give(staging);
    }
  }

  release(buffer: DeviceBuffer): void {
    this.#lifetimes.release((buffer as GpuBuffer).block, buffer.size * itemSize[buffer.dtype]);
  }

  supports({ webgpu, needs }: Pick<Kernel, 'webgpu' | 'needs'>): boolean {
    return webgpu !== undefined && needs(this.features);
  }

  launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    this.#expectAlive(kernel.name);
    const plan = this.#plans.get(kernel, views, parameters);
    if (plan.division !== null) {
      launchHalves(this, kernel, plan.division, views, parameters);
      return;
    }
    // Memory of the launch's own, given back however it ends.
    const taken: GpuBuffer[] = [];
    const take = (dtype: DType, size: number): GpuBuffer => {
      const buffer = this.#take(dtype, size);
      taken.push(buffer);
      return buffer;
    };
    try {
      const scratch = plan.scratch.map(({ dtype, size }) => ({ buffer: take(dtype, size), offset: 0, size }));
      const all = scratch.length === 0 ? views : [...views, ...scratch];
      const dispatches = this.#bind(plan, all, parameters, (sizeBytes) => take('int8', sizeBytes).block);
      this.#counters.launches++;
      if (this.#recording !== null) {
        this.#recording.launches++;
        this.#lifetimes.captured(kernel, views, ({ buffer }) => (buffer as GpuBuffer).block);
      }
      for (const dispatch of dispatches) {
        for (const copy of dispatch.before) this.#copy(copy);
        this.#dispatch(dispatch, plan.floats.length === 0 ? null : withFloats(dispatch.uniforms, plan.floats, parameters));
        for (const copy of dispatch.after) this.#copy(copy);
      }
    } finally {
      for (const buffer of taken) this.release(buffer);
    }
  }

  async synchronize(): Promise<void> {
    this.#expectAlive('synchronize');
    await this.#ended();
    if (this.#failure !== null) throw this.#failure;
  }

  capture(step: () => void): Program {
    this.#expectAlive('capture');
    const recording = { entries: [] as Captured[], launches: 0 };
    const recorded = () => {
      this.#recording = recording;
      try {
        step();
      } finally {
        this.#recording = null;
      }
    };
    return this.#lifetimes.capture(recorded, () => this.#program(recording));
  }

  /** Times every dispatch from now on; for measurements, as it slows them down. @throws BackendError where the GPU has no clock */
  startProfile(): void {
    if (!this.#hasTimestamps) throw new BackendError('startProfile: this GPU has no timestamps');
    this.#profile = new GpuProfile(this.#device);
    this.#stream.profile = this.#profile;
  }

  /** Ends the profile. @returns milliseconds of the GPU in each kernel, longest first */
  async kernelTimes(): Promise<{ kernel: string; milliseconds: number }[]> {
    await this.synchronize();
    this.#stream.profile = null;
    return (await this.#profile?.times()) ?? [];
  }

  statistics() {
    return this.#counters.statistics();
  }

  resetStatistics(): void {
    this.#counters.reset();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // What is in the stream ends, and is read; what comes after this line is refused.
    this.#closed = true;
    this.#lifetimes.close();
    // The device may be lost meanwhile: then nothing runs any more either.
    if (this.#failure === null) await Promise.allSettled([this.#ended(), ...this.#reads]);
    this.#stream.fail(this.#failure ?? new DisposedError('the backend was closed'));
    this.#pool.destroy();
    this.#staging.destroy();
    this.#device.destroy();
  }

  [asyncDisposeSymbol](): Promise<void> {
    return this.close();
  }

  /** @throws DisposedError after `close()`; what ended the device, where it was lost */
  #expectAlive(operation: string): void {
    if (this.#closed) throw new DisposedError(`${operation}: the backend was closed`);
    if (this.#failure !== null) throw this.#failure;
  }

  /** Resolves when everything launched so far is done. */
  async #ended(): Promise<void> {
    await this.#stream.submitted();
    await this.#device.queue.onSubmittedWorkDone();
  }

  /** A captured step with its uniforms and bind groups. */
  #program({ entries, launches }: { readonly entries: readonly Captured[]; readonly launches: number }) {
    const uniforms = this.#device.createBuffer({
      size: Math.max(1, entries.length) * uniformBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const words = new Uint32Array(entries.length * uniformWords);
    let work = entries.map((entry, i): EncodedDispatch | EncodedCopy => {
      if (!('pipeline' in entry)) return entry;
      words.set(entry.uniforms, i * uniformWords);
      const { kernel, workgroups, fixed, ranges } = entry;
      return { kernel, pipeline: fixed, workgroups, group: this.#group(fixed.layout, ranges, uniforms, i * uniformBytes), uniforms: null };
    });
    this.#device.queue.writeBuffer(uniforms, 0, words);
    const replay = () => {
      this.#expectAlive('replay');
      this.#counters.launches += launches;
      this.#stream.replay(work);
    };
    const dispose = () => {
      work = [];
      this.#stream.whenEmpty(() => {
        uniforms.destroy();
      });
    };
    return { launches, replay, dispose };
  }

  /** The launch on this memory, as it was bound before where it was. */
  #bind(
    plan: LaunchPlan,
    views: readonly (BufferView | null)[],
    parameters: readonly number[],
    temporary: (sizeBytes: number) => GpuBlock,
  ): readonly BoundDispatch[] {
    const key = [plan.id];
    for (const view of views) {
      if (view === null) key.push(-1);
      else key.push((view.buffer as GpuBuffer).block.id, view.offset, view.size);
    }
    const known = this.#bound.get(key);
    if (known !== undefined) return known;
    if (this.#bound.size >= mostBound) this.#bound.clear();
    const made = bindLaunch(plan, views, parameters, this.#limits, temporary);
    // Copies are made in memory that is taken for the launch.
    if (made.every(({ before }) => before.length === 0)) this.#bound.add(key, made);
    return made;
  }

  #fail(error: BackendError): void {
    if (this.#closed || this.#failure !== null) return;
    this.#failure = error;
    this.#stream.fail(error);
  }

  #take(dtype: DType, size: number): GpuBuffer {
    this.#expectAlive('allocate');
    if (dtype === 'f16' && !this.features.f16) {
      throw new BackendError(`allocate: ${this.description} has no f16. Hint: f32, or another GPU`);
    }
    const sizeBytes = size * itemSize[dtype];
    const { maxBufferSize } = this.#limits;
    if (sizeBytes > maxBufferSize) {
      throw new BackendError(
        `allocate: ${sizeBytes} bytes are more than one buffer may have here (${maxBufferSize}). ` +
          'Hint: a smaller batch or chunk',
      );
    }
    const block = this.#lifetimes.reuse(blockSize(sizeBytes)) ?? this.#pool.take(sizeBytes);
    this.#lifetimes.taken(block, sizeBytes);
    return { dtype, size, block };
  }

  #give(block: GpuBlock): void {
    this.#pool.give(block);
    if (!this.#pool.crowded) return;
    // Bind groups keep their buffers alive; blocks are destroyed when nothing that is still to be submitted names them.
    this.#stream.whenEmpty(() => {
      this.#bound.clear();
      this.#pool.trim();
    });
  }

  /** @param uniforms where they are others than when it was bound */
  #dispatch(dispatch: BoundDispatch, uniforms: Uint32Array | null): void {
    if (this.#recording !== null) {
      this.#recording.entries.push({ ...dispatch, uniforms: uniforms ?? dispatch.uniforms, fixed: dispatch.pipeline('fixed') });
      return;
    }
    const encoded = (dispatch.encoded ??= this.#encoded(dispatch));
    this.#stream.dispatch(uniforms === null ? encoded : { ...encoded, uniforms });
  }

  #copy(copy: EncodedCopy): void {
    if (this.#recording !== null) this.#recording.entries.push(copy);
    else this.#stream.copy(copy);
  }

  /** Copies and converts between f32 and f16. */
  #copyNumbers(from: BufferView, to: BufferView): void {
    const halves = [from, to].map(({ buffer }) => Number(buffer.dtype === 'f16'));
    this.launch(copyRows as unknown as Kernel, [from, to], [1, to.size, to.size, to.size, ...halves]);
  }

  #encoded({ kernel, pipeline, ranges, uniforms, workgroups }: BoundDispatch): EncodedDispatch {
    const compiling = pipeline('dynamic');
    return { kernel, pipeline: compiling, group: this.#group(compiling.layout, ranges, this.#stream.uniforms, 0), uniforms, workgroups };
  }

  #group(layout: GPUBindGroupLayout, ranges: BoundDispatch['ranges'], uniforms: GPUBuffer, uniformsAt: number): GPUBindGroup {
    return this.#device.createBindGroup({
      layout,
      entries: [
        { binding: 0, resource: { buffer: uniforms, offset: uniformsAt, size: uniformBytes } },
        ...ranges.map(({ block, offset, sizeBytes }, i) => ({
          binding: i + 1,
          resource: { buffer: block.buffer, offset, size: sizeBytes },
        })),
      ],
    });
  }
}

function hostArray(dtype: DType, bytes: ArrayBuffer): HostArray {
  if (isPacked(dtype)) return new Uint8Array(bytes);
  return dtype === 'i32' ? new Int32Array(bytes) : new Float32Array(bytes);
}
