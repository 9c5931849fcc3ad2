import { BackendError } from '../../util/errors.js';
import type { BufferView, DType, GpuFeatures, GpuLaunch, Kernel } from '../../tensor/index.js';
import type { Pipeline, Pipelines } from './pipelines.js';
import { shaderBuffer, shaderKey, shaderModule, type ShaderBuffer } from './shader.js';

/** Places of buffers are told apart up to this many elements: kernels ask for smaller powers of two. */
export const placeModulus = 64;

/** A dispatch but for the memory it works on. */
export interface PlannedDispatch {
  readonly pipeline: Pipeline;
  /** `index`: of the launch's views, then of the scratch. */
  readonly buffers: readonly { readonly index: number; readonly shader: ShaderBuffer }[];
  readonly workgroups: readonly [number, number, number];
  readonly numbers: readonly number[];
}

/** What a launch does. */
export interface LaunchPlan {
  readonly scratch: readonly { readonly dtype: DType; readonly size: number }[];
  readonly dispatches: readonly PlannedDispatch[];
}

/** Asks the kernel for its dispatches and finds, or begins to compile, their pipelines. @throws BackendError without a GPU form */
export function planLaunch(
  kernel: Kernel,
  views: readonly (BufferView | null)[],
  parameters: readonly number[],
  gpu: GpuFeatures,
  pipelines: Pipelines,
): LaunchPlan {
  if (kernel.webgpu === undefined) throw new BackendError(`${kernel.name}: there is no WebGPU kernel for it`);
  const names = Object.keys(kernel.buffers);
  const viewOf = (name: string): BufferView | null => views[names.indexOf(name)] ?? null;
  const launch: GpuLaunch = {
    gpu,
    parameters: Object.fromEntries(Object.keys(kernel.parameters).map((name, i) => [name, parameters[i] ?? 0])),
    dtype: (name) => viewOf(name)?.buffer.dtype,
    has: (name) => viewOf(name) !== null,
    aligned: (elements, ...some) => some.every((name) => (viewOf(name)?.offset ?? 0) % elements === 0),
  };
  const { dispatches, scratch = {} } = kernel.webgpu(launch);
  const scratchNames = Object.keys(scratch);
  const planned = dispatches.map((dispatch): PlannedDispatch => {
    const [x, y = 1, z = 1] = dispatch.workgroups;
    const buffers = dispatch.buffers.map((use) => {
      const binding = typeof use === 'string' ? { name: use } : use;
      const own = scratch[binding.name];
      const dtype = own?.dtype ?? launch.dtype(binding.name);
      if (dtype === undefined) throw new BackendError(`${kernel.name}: ${binding.name} was not given to the launch`);
      const access = kernel.buffers[binding.name]?.access === 'in' ? ('read' as const) : ('read_write' as const);
      const index = own === undefined ? names.indexOf(binding.name) : names.length + scratchNames.indexOf(binding.name);
      return { index, shader: shaderBuffer(binding, dtype, access) };
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
  };
}
