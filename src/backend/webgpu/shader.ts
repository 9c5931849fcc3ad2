/** The WGSL around a kernel's code: what it is given, declared from the kernel's declaration. */
import type { DType, GpuBinding, Kernel } from '../../tensor/index.js';

/** A buffer of a dispatch with all that its declaration needs. */
export interface ShaderBuffer {
  readonly name: string;
  /** WGSL type of an element. */
  readonly element: string;
  /** Bytes of an element. */
  readonly elementBytes: number;
  readonly access: 'read' | 'read_write';
}

const scalarBytes: Readonly<Record<string, number>> = { f32: 4, i32: 4, u32: 4, f16: 2, 'atomic<u32>': 4 };

/** WGSL's type of the items of a buffer; packed bytes are read as words. */
const elementOf = (dtype: DType): string => (dtype in scalarBytes ? dtype : 'u32');

/** How a dispatch sees a buffer of this dtype. */
export function shaderBuffer(binding: GpuBinding, dtype: DType, access: 'read' | 'read_write'): ShaderBuffer {
  const element = binding.as ?? elementOf(dtype);
  const [, lanes = '1', scalar = element] = /^vec([234])<(.*)>$/.exec(element) ?? [];
  const bytes = scalarBytes[scalar];
  if (bytes === undefined) throw new RangeError(`webgpu: no such element type: ${element}`);
  return { name: binding.name, element, elementBytes: Number(lanes) * bytes, access: binding.access ?? access };
}

/** What makes the code of a kernel's dispatch differ from others of equal variant. */
export const shaderKey = (buffers: readonly ShaderBuffer[]): string =>
  buffers.map(({ name, element, access }) => `${name}:${element}:${access}`).join(',');

/** The whole module. The members of `p` are in the order in which their words are written. */
export function shaderModule(kernel: Kernel, buffers: readonly ShaderBuffer[], numbers: readonly string[], code: string): string {
  const members = [
    ...Object.entries(kernel.parameters).map(([name, kind]) => `${name}: ${kind === 'float' ? 'f32' : 'u32'},`),
    ...buffers.map(({ name }) => `${name}_at: u32,`),
    ...numbers.map((name) => `${name}: u32,`),
  ];
  const declarations = buffers.map(
    ({ name, element, access }, i) => `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: array<${element}>;`,
  );
  const body = [
    `struct Parameters { ${members.join(' ')} }`,
    '@group(0) @binding(0) var<uniform> p: Parameters;',
    ...declarations,
    'fn flat_workgroup(id: vec3<u32>, count: vec3<u32>) -> u32 { return id.x + id.y * count.x; }',
    code,
  ].join('\n');
  const enables = [
    ...(/\bf16\b/.test(body) ? ['enable f16;'] : []),
    ...(/\bsubgroup(?!_matrix)/.test(body) ? ['enable subgroups;'] : []),
    ...(body.includes('subgroup_matrix')
      ? ['enable chromium_experimental_subgroup_matrix;', 'diagnostic(off, chromium.subgroup_matrix_uniformity);']
      : []),
  ];
  // Directives come first, enables before diagnostics.
  return [...enables, body].join('\n');
}
