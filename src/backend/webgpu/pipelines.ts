/** A pipeline that may still be compiling. */
export interface Pipeline {
  readonly layout: GPUBindGroupLayout;
  /** Set when it is compiled. */
  compiled: GPUComputePipeline | undefined;
  /** Resolves when it is. */
  readonly ready: Promise<void>;
}

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
   * The pipeline of a key; compiles `source` where it is new.
   * @param access of the storage buffers, in order
   */
  get(key: string, label: string, access: readonly ('read' | 'read_write')[], source: () => string): Pipeline {
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const layout = this.#layout(access);
    const module = this.#device.createShaderModule({ label, code: source() });
    const promise = this.#device.createComputePipelineAsync({ label, layout: layout.pipeline, compute: { module, entryPoint: 'main' } });
    const pipeline: Pipeline = {
      layout: layout.group,
      compiled: undefined,
      ready: promise.then((compiled) => {
        pipeline.compiled = compiled;
      }),
    };
    // Whoever waits sees the failure; one that nobody waits for yet is no unhandled rejection.
    pipeline.ready.catch(() => undefined);
    this.#byKey.set(key, pipeline);
    return pipeline;
  }

  #layout(access: readonly ('read' | 'read_write')[]) {
    const key = access.join();
    const known = this.#layouts.get(key);
    if (known !== undefined) return known;
    const group = this.#device.createBindGroupLayout({
      entries: [
        {
          binding: 0,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: uniformBytes },
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
