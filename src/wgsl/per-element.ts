import { fold, type GpuBinding, type GpuDispatch } from '../tensor/index.js';

const workgroupSize = 256;

/**
 * A dispatch with an invocation for each of `count` elements.
 * @param body WGSL statements; `i` is the element
 * @param functions WGSL declarations before them
 */
export function perElement(options: {
  variant: string;
  count: number;
  buffers: readonly (string | GpuBinding)[];
  body: string;
  functions?: string;
  numbers?: Readonly<Record<string, number>>;
}): GpuDispatch {
  const { variant, count, buffers, body, functions = '', numbers = {} } = options;
  return {
    variant,
    buffers,
    numbers: { ...numbers, elements: count },
    workgroups: count === 0 ? [0] : fold(Math.ceil(count / workgroupSize)),
    code: () => `
      ${functions}
      @compute @workgroup_size(${workgroupSize})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let i = flat_workgroup(id, count) * ${workgroupSize} + thread;
        if (i >= p.elements) { return; }
        ${body}
      }`,
  };
}
