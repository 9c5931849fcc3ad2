import { BackendError } from '../../util/errors.js';
import {
  itemSize,
  type BufferView,
  type Division,
  type DType,
  type GpuBinding,
  type GpuFeatures,
  type GpuLaunch,
  type Kernel,
} from '../../tensor/index.js';
import { divisionFor } from './divide.js';
import { ListMap } from './list-map.js';
import type { Pipeline, Pipelines } from './pipelines.js';
import { shaderBuffer, shaderKey, shaderModule, type ShaderBuffer } from './shader.js';

/** Places of buffers are told apart up to this many elements: kernels ask for smaller powers of two. */
const placeModulus = 64;
const dtypes = Object.keys(itemSize);
/** Plans kept for launches that come again. */
const mostPlans = 4096;

/** A dispatch but for the memory it works on. */
export interface PlannedDispatch {
  readonly pipeline: Pipeline;
  /** `index`: of the launch's views, then of the scratch; `part`: the elements of it that are bound, where not all are. */
  readonly buffers: readonly { readonly index: number; readonly shader: ShaderBuffer; readonly part: GpuBinding['part'] }[];
  readonly workgroups: readonly [number, number, number];
  readonly numbers: readonly number[];
}

/** What a launch does. */
export interface LaunchPlan {
  /** Tells it from other plans. */
  readonly id: number;
  readonly kernel: Kernel;
  /** Places of floats among the parameters. */
  readonly floats: readonly number[];
  readonly scratch: readonly { readonly dtype: DType; readonly size: number }[];
  readonly dispatches: readonly PlannedDispatch[];
  /** How the launch is to be divided first, because more of a buffer is used than can be bound; there are no dispatches then. */
  readonly division: Division | null;
}

/** What is looked up of a kernel at every launch. */
interface KnownKernel {
  readonly id: number;
  readonly parameterNames: readonly string[];
  readonly floats: readonly number[];
}

/**
 * What launches do: worked out once for each kernel, its parameters (`GpuLaunch`), and dtypes and places of its buffers, whose
 * sizes follow from the parameters.
 */
export class LaunchPlans {
  readonly #gpu: GpuFeatures;
  readonly #pipelines: Pipelines;
  readonly #kernels = new Map<Kernel, KnownKernel>();
  readonly #plans = new ListMap<LaunchPlan>();
  #nextId = 0;

  constructor(gpu: GpuFeatures, pipelines: Pipelines) {
    this.#gpu = gpu;
    this.#pipelines = pipelines;
  }

  /** @throws BackendError when the kernel has no GPU form */
  get(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): LaunchPlan {
    const { id, parameterNames, floats } = this.#known(kernel);
    const key = [...parameters, id];
    for (const i of floats) key[i] = Math.sign(parameters[i] ?? 0) || 0;
    for (const view of views) {
      key.push(view === null ? -1 : dtypes.indexOf(view.buffer.dtype) * placeModulus + (view.offset % placeModulus));
    }
    const known = this.#plans.get(key);
    if (known !== undefined) return known;
    if (this.#plans.size >= mostPlans) this.#plans.clear();
    const byName = Object.fromEntries(parameterNames.map((name, i) => [name, key[i] ?? 0]));
    const made = { id: this.#nextId++, kernel, floats, ...planLaunch(kernel, views, byName, this.#gpu, this.#pipelines) };
    this.#plans.add(key, made);
    return made;
  }

  #known(kernel: Kernel): KnownKernel {
    const known = this.#kernels.get(kernel);
    if (known !== undefined) return known;
    const parameterNames = Object.keys(kernel.parameters);
    const floats = parameterNames.flatMap((name, i) => (kernel.parameters[name] === 'float' ? [i] : []));
    const made = { id: this.#kernels.size, parameterNames, floats };
    this.#kernels.set(kernel, made);
    return made;
  }
}

/** Asks the kernel for its dispatches and finds their pipelines. */
function planLaunch(
  kernel: Kernel,
  views: readonly (BufferView | null)[],
  parameters: Readonly<Record<string, number>>,
  gpu: GpuFeatures,
  pipelines: Pipelines,
): Pick<LaunchPlan, 'scratch' | 'dispatches' | 'division'> {
  if (kernel.webgpu === undefined) throw new BackendError(`${kernel.name}: there is no WebGPU kernel for it`);
  const names = Object.keys(kernel.buffers);
  const byName = Object.fromEntries(names.map((name, i) => [name, views[i] ?? null]));
  const viewOf = (name: string): BufferView | null => byName[name] ?? null;
  const launch: GpuLaunch = {
    gpu,
    parameters,
    dtype: (name) => viewOf(name)?.buffer.dtype,
    has: (name) => viewOf(name) !== null,
    aligned: (elements, ...some) => some.every((name) => (viewOf(name)?.offset ?? 0) % elements === 0),
  };
  const work = kernel.webgpu(launch);
  const division = divisionFor(kernel, byName, parameters, work, gpu);
  if (division !== null) return { scratch: [], dispatches: [], division };
  const { dispatches, scratch = {} } = work;
  const scratchNames = Object.keys(scratch);
  const planned = dispatches.map((dispatch): PlannedDispatch => {
    const [x, y = 1, z = 1] = dispatch.workgroups;
    const buffers = dispatch.buffers.map((use) => {
      const binding: GpuBinding = typeof use === 'string' ? { name: use } : use;
      const own = scratch[binding.name];
      const dtype = own?.dtype ?? launch.dtype(binding.name);
      if (dtype === undefined) throw new BackendError(`${kernel.name}: ${binding.name} was not given to the launch`);
      const access = kernel.buffers[binding.name]?.access === 'in' ? ('read' as const) : ('read_write' as const);
      const index = own === undefined ? names.indexOf(binding.name) : names.length + scratchNames.indexOf(binding.name);
      return { index, shader: shaderBuffer(binding, dtype, access), part: binding.part };
    });
    const shaders = buffers.map(({ shader }) => shader);
    const numbers = dispatch.numbers ?? {};
    const numberNames = Object.keys(numbers);
    const pipeline = pipelines.get(
      `${kernel.name}|${dispatch.variant}|${shaderKey(shaders)}|${numberNames.join()}`,
      kernel.name,
      shaders.map(({ access }) => access),
      () => shaderModule(kernel, shaders, numberNames, dispatch.code()),
    );
    return { pipeline, buffers, workgroups: [x, y, z], numbers: Object.values(numbers) };
  });
  return {
    scratch: Object.values(scratch),
    dispatches: planned.filter(({ workgroups: [x, y, z] }) => x * y * z > 0),
    division,
  };
}
