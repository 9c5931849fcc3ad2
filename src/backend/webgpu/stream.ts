import { BackendError } from '../../util/errors.js';
import { uniformBytes, uniformWords, type CompilingPipeline } from './pipelines.js';
import type { GpuProfile } from './profile.js';

/** A dispatch that is ready to be encoded. */
export interface EncodedDispatch {
  readonly kernel: string;
  readonly pipeline: CompilingPipeline;
  readonly group: GPUBindGroup;
  /** The uniforms' words, to be put into the stream's own uniform buffer; null where the group has them, at a fixed offset. */
  readonly uniforms: Uint32Array | null;
  readonly workgroups: readonly [number, number, number];
}

/** A copy from buffer to buffer, in bytes. */
export interface EncodedCopy {
  readonly from: GPUBuffer;
  readonly fromOffset: number;
  readonly to: GPUBuffer;
  readonly toOffset: number;
  readonly sizeBytes: number;
}

/** What the stream holds, in order; `step` is a captured one, whole. */
type Entry =
  | { readonly kind: 'dispatch'; readonly dispatch: EncodedDispatch }
  | { readonly kind: 'step'; readonly work: readonly (EncodedDispatch | EncodedCopy)[] }
  | { readonly kind: 'write'; readonly buffer: GPUBuffer; readonly offset: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'copy'; readonly copy: EncodedCopy }
  | { readonly kind: 'mark'; readonly resolve: () => void; readonly reject: (error: Error) => void };

/** Dispatches in a submission, at most: the room for their uniforms. */
const dispatchesPerSubmission = 1024;
/** Dispatches after which a submission goes out though more follow, so that the GPU starts early. */
const earlySubmission = 96;

/**
 * The in-order stream of a device: dispatches, writes and copies are queued, encoded as soon as their pipelines are compiled,
 * and submitted many at a time.
 */
export class GpuStream {
  /** Where the uniforms of a submission's dispatches lie. */
  readonly uniforms: GPUBuffer;
  readonly #device: GPUDevice;
  readonly #words = new Uint32Array(dispatchesPerSubmission * uniformWords);
  #entries: Entry[] = [];
  #next = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  /** Dispatches encoded and not yet submitted whose uniforms are in `#words`. */
  #slots = 0;
  #waiting = false;
  #scheduled = false;
  #failure: Error | null = null;
  #profile: GpuProfile | null = null;

  constructor(device: GPUDevice) {
    this.#device = device;
    this.uniforms = device.createBuffer({
      label: 'uniforms',
      size: this.#words.byteLength,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  dispatch(dispatch: EncodedDispatch): void {
    this.#push({ kind: 'dispatch', dispatch });
  }

  write(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.#push({ kind: 'write', buffer, offset, bytes });
  }

  copy(copy: EncodedCopy): void {
    this.#push({ kind: 'copy', copy });
  }

  /** A captured step: one entry, encoded and submitted at once, so that the GPU works on it while the next is encoded. */
  replay(work: readonly (EncodedDispatch | EncodedCopy)[]): void {
    this.#push({ kind: 'step', work });
    this.#advance();
  }

  /** Resolves when everything before has been submitted. */
  submitted(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#push({ kind: 'mark', resolve, reject });
      this.#advance();
    });
  }

  /** Submits what is encoded, and calls `then` when nothing is left in the stream; not at all while pipelines compile. */
  whenEmpty(then: () => void): void {
    this.#advance();
    if (this.#entries.length === 0) then();
  }

  /** Ends the stream: what waits is rejected with `error`, and what comes later as well. */
  fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#pass = null;
    this.#encoder = null;
    for (const entry of this.#entries.splice(0)) if (entry.kind === 'mark') entry.reject(error);
    this.#next = 0;
  }

  /** Times every dispatch from now on, each in a pass of its own, or no longer. */
  set profile(profile: GpuProfile | null) {
    this.#advance();
    this.#profile = profile;
  }

  #push(entry: Entry): void {
    if (this.#failure !== null) {
      if (entry.kind === 'mark') entry.reject(this.#failure);
      return;
    }
    this.#entries.push(entry);
    if (this.#scheduled || this.#waiting) return;
    if (this.#entries.length - this.#next >= earlySubmission) {
      this.#advance();
      return;
    }
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#advance();
    });
  }

  /** Encodes and submits entries up to the first whose pipeline is not compiled. */
  #advance(): void {
    if (this.#waiting || this.#failure !== null) return;
    let marks: Extract<Entry, { kind: 'mark' }>[] = [];
    const flush = () => {
      this.#submit();
      for (const { resolve } of marks) resolve();
      marks = [];
    };
    try {
      for (; this.#next < this.#entries.length; this.#next++) {
        const entry = this.#entries[this.#next] as Entry;
        if (entry.kind === 'dispatch') {
          if (entry.dispatch.pipeline.compiled === undefined) {
            this.#wait(entry.dispatch);
            break;
          }
          if (this.#slots >= dispatchesPerSubmission) flush();
          this.#encode(entry.dispatch, entry.dispatch.pipeline.compiled);
        } else if (entry.kind === 'step') {
          const uncompiled = entry.work.find((work) => 'pipeline' in work && work.pipeline.compiled === undefined);
          if (uncompiled !== undefined) {
            this.#wait(uncompiled as EncodedDispatch);
            break;
          }
          for (const work of entry.work) {
            if ('pipeline' in work) this.#encode(work, work.pipeline.compiled as GPUComputePipeline);
            else this.#encodeCopy(work);
          }
        } else if (entry.kind === 'copy') {
          this.#encodeCopy(entry.copy);
        } else if (entry.kind === 'write') {
          // The queue writes between submissions: what was encoded before must go first.
          this.#submit();
          this.#device.queue.writeBuffer(entry.buffer, entry.offset, entry.bytes);
        } else {
          marks.push(entry);
        }
      }
      flush();
    } catch (error) {
      const failure = error instanceof Error ? error : new BackendError(String(error));
      this.fail(failure);
      for (const { reject } of marks) reject(failure);
    }
    if (this.#next === this.#entries.length) {
      this.#entries = [];
      this.#next = 0;
    }
  }

  #wait({ kernel, pipeline }: EncodedDispatch): void {
    this.#waiting = true;
    pipeline.ready.then(
      () => {
        this.#waiting = false;
        this.#advance();
      },
      (error: unknown) => {
        this.#waiting = false;
        const message = error instanceof Error ? error.message : String(error);
        this.fail(new BackendError(`${kernel}: the GPU's compiler rejects the kernel: ${message}`));
      },
    );
  }

  #commands(): GPUCommandEncoder {
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #encode({ kernel, group, uniforms, workgroups }: EncodedDispatch, pipeline: GPUComputePipeline): void {
    if (this.#profile !== null) this.#endPass();
    this.#pass ??= this.#commands().beginComputePass(this.#profile?.nextPass(kernel) ?? {});
    this.#pass.setPipeline(pipeline);
    if (uniforms === null) {
      this.#pass.setBindGroup(0, group);
    } else {
      this.#words.set(uniforms, this.#slots * uniformWords);
      this.#pass.setBindGroup(0, group, [this.#slots * uniformBytes]);
      this.#slots++;
    }
    this.#pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
  }

  #encodeCopy({ from, fromOffset, to, toOffset, sizeBytes }: EncodedCopy): void {
    this.#endPass();
    this.#commands().copyBufferToBuffer(from, fromOffset, to, toOffset, sizeBytes);
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  #submit(): void {
    if (this.#encoder === null) return;
    this.#endPass();
    if (this.#slots > 0) this.#device.queue.writeBuffer(this.uniforms, 0, this.#words, 0, this.#slots * uniformWords);
    this.#profile?.resolve(this.#encoder);
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#profile?.submitted();
    this.#encoder = null;
    this.#slots = 0;
  }
}
