/** A pipeline that may still be compiling. */
export interface CompilingPipeline {
  readonly layout: GPUBindGroupLayout;
  /** Set when it is compiled. */
  compiled: GPUComputePipeline | undefined;
  /** Resolves when it is. */
  readonly ready: Promise<void>;
}

/**
 * How bind groups say where uniforms lie: anew with each use, or once. Encoding a dispatch of the second kind takes a fifth less of the
 * host's time.
 */
export type UniformOffset = 'dynamic' | 'fixed';

/** The pipelines of a code; each is compiled when it is first asked for. */
export type Pipeline = (offset: UniformOffset) => CompilingPipeline;

/** Words of a dispatch's uniforms, and the bytes from one dispatch's to the next: the alignment that WebGPU guarantees. */
export const uniformWords = 64;
export const uniformBytes = 4 * uniformWords;

/** Compiled code by its key. Compilation goes on beside the program: launches wait in the stream. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #byKey = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * The pipeline of a key, of `source` where it is new.
   * @param access of the storage buffers, in order
   */
  get(key: string, label: string, access: readonly ('read' | 'read_write')[], source: () => string): Pipeline {
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    // A function until it is needed, and no longer: that holds what the code is made for.
    let code: string | (() => string) = source;
    const kinds = new Map<UniformOffset, CompilingPipeline>();
    const pipeline: Pipeline = (offset) => {
      const compiling = kinds.get(offset);
      if (compiling !== undefined) return compiling;
      if (typeof code !== 'string') code = code();
      const made = this.#compile(label, code, this.#layout(access, offset));
      kinds.set(offset, made);
      return made;
    };
    this.#byKey.set(key, pipeline);
    return pipeline;
  }

  #compile(label: string, code: string, layout: { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }): CompilingPipeline {
    const module = this.#device.createShaderModule({ label, code });
    const promise = this.#device.createComputePipelineAsync({ label, layout: layout.pipeline, compute: { module, entryPoint: 'main' } });
    const made: CompilingPipeline = {
      layout: layout.group,
      compiled: undefined,
      ready: promise.then((compiled) => {
        made.compiled = compiled;
      }),
    };
    // Whoever waits sees the failure; one that nobody waits for yet is no unhandled rejection.
    made.ready.catch(() => undefined);
    return made;
  }

  #layout(access: readonly ('read' | 'read_write')[], offset: UniformOffset) {
    const key = `${offset} ${access.join()}`;
    const known = this.#layouts.get(key);
    if (known !== undefined) return known;
    const group = this.#device.createBindGroupLayout({
      entries: [
        {
          binding: 0,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: offset === 'dynamic', minBindingSize: uniformBytes },
        },
        ...access.map((kind, i) => ({
          binding: i + 1,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: kind === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
        })),
      ],
    });
    const made = { group, pipeline: this.#device.createPipelineLayout({ bindGroupLayouts: [group] }) };
    this.#layouts.set(key, made);
    return made;
  }
}
