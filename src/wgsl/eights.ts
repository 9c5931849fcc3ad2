/** Pieces of WGSL for kernels on matrix units: numbers eight at a time, as halves, whatever their dtype. */
import type { DType, GpuBinding } from '../tensor/index.js';

const lanes = 8;

/** A buffer that is read or written eight numbers at a time. */
export interface Eights {
  readonly binding: GpuBinding;
  /** `fn <name>_eight(row, c) -> vec4<u32>`: eight as pairs of halves. */
  readonly read: string;
  /** `fn <name>_put(row, c, first: vec4<f32>, second: vec4<f32>)`. */
  readonly write: string;
}

/** Two fours as an eight of halves. */
export const packFours = (first: string, second: string): string =>
  `vec4<u32>(${[first, second].flatMap((four) => ['xy', 'zw'].map((pair) => `pack2x16float(${four}.${pair})`)).join(', ')})`;

/** @param pitch WGSL of the elements from one row to the next */
export function eights(name: string, dtype: DType | undefined, pitch: string, saturated = false): Eights {
  const half = dtype === 'f16';
  const each = half ? lanes : 4;
  const at = `p.${name}_at + row * (${pitch} / ${each}u) + c${half ? '' : ' * 2u'}`;
  const bounded = (four: string) => (saturated ? `clamp(${four}, vec4<f32>(-65504.0), vec4<f32>(65504.0))` : four);
  return {
    binding: { name, as: half ? 'vec4<u32>' : 'vec4<f32>' },
    read: `
  fn ${name}_eight(row: u32, c: u32) -> vec4<u32> {
    let at = ${at};
    return ${half ? `${name}[at]` : packFours(`${name}[at]`, `${name}[at + 1u]`)};
  }`,
    write: `
  fn ${name}_put(row: u32, c: u32, first: vec4<f32>, second: vec4<f32>) {
    let at = ${at};
    ${half ? `${name}[at] = ${packFours(bounded('first'), bounded('second'))};` : `${name}[at] = first; ${name}[at + 1u] = second;`}
  }`,
  };
}

/**
 * Never true: an array has elements. Behind it stands a store of sums to global memory, without which the compiler for NVIDIA's GPUs makes
 * loops over products slow (docs/webgpu.md).
 */
export const never = (array: string): string => `arrayLength(&${array}) == 0u`;
