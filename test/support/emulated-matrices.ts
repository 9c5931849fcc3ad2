import { openGpuDevice } from '../../src/backend/webgpu/device.js';
import { WebGpuBackend } from '../../src/backend/webgpu/webgpu-backend.js';

/**
 * A backend whose shaders may multiply matrices on any GPU: calls of subgroup matrices become functions in which each invocation has a row
 * of left factors and sums, as a mat4x4. A right factor is the place where it lies, read when it is multiplied by. Factors are halves, as on
 * matrix units; memory is what it is there, vectors of four words. Shuffles go through workgroup memory.
 */
export async function openEmulatingBackend(): Promise<WebGpuBackend> {
  const gpu = await openGpuDevice();
  const device = new Proxy(gpu.device, {
    get(target, name) {
      if (name === 'createShaderModule') {
        return ({ code, ...rest }: GPUShaderModuleDescriptor) => target.createShaderModule({ ...rest, code: emulated(code) });
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value as (...all: unknown[]) => unknown).bind(target) : value;
    },
  });
  return new WebGpuBackend({ ...gpu, device }, { poison: true });
}

function emulated(code: string): string {
  if (!code.includes('subgroup_matrix')) return code;
  const arrays = [...new Set([...code.matchAll(/subgroupMatrixLoad<[^(]*\(&(\w+)/g)].map(([, name]) => name ?? ''))];
  const stored = [...new Set([...code.matchAll(/subgroupMatrixStore<row_major>\(&(\w+)/g)].map(([, name]) => name ?? ''))];
  return `${code
    .replace(/^enable .*$/gm, '')
    .replace(/^diagnostic.*$/gm, '')
    .replace(/subgroup_matrix_result<f32, 16, 16>\(\)/g, 'mat4x4<f32>()')
    .replace(/subgroupMatrixLoad<subgroup_matrix_(\w+)<f\d+, 16, 16>, (\w+)>\(&(\w+)/g, 'load_$1_$2_$3(thread')
    .replace(/subgroupMatrixMultiplyAccumulate\(/g, 'multiply_matrices(')
    .replace(/subgroupMatrixStore<row_major>\(&(\w+)/g, 'store_$1(thread')
    .replace(/subgroupShuffleXor\(/g, 'shuffle_xor(thread, ')}
  fn word_of(array: u32, at: u32, word: u32) -> u32 {
    switch (array) {
      ${arrays.map((array, i) => `case ${i}u: { return ${array}[at + word / 4u][word % 4u]; }`).join('\n      ')}
      default: { return 0u; }
    }
  }
  fn half_of(array: u32, at: u32, i: u32) -> f32 { return unpack2x16float(word_of(array, at, i / 2u))[i % 2u]; }
  // right: array, whether columns lie one after the other, where, and from one to the next.
  fn multiply_matrices(left: mat4x4<f32>, right: vec4<u32>, own_row: mat4x4<f32>) -> mat4x4<f32> {
    var a = left;
    var c = own_row;
    let steps = select(vec2<u32>(8u * right.w, 1u), vec2<u32>(1u, 8u * right.w), right.y == 1u);
    for (var i = 0u; i < 64u; i++) {
      let at = i / 4u * steps.x + 4u * (i % 4u) * steps.y;
      let four = vec4<f32>(half_of(right.x, right.z, at), half_of(right.x, right.z, at + steps.y), half_of(right.x, right.z, at + 2u * steps.y), half_of(right.x, right.z, at + 3u * steps.y));
      c[i % 4u] += a[i / 16u][i / 4u % 4u] * four;
    }
    return c;
  }
  var<workgroup> shuffled: array<f32, 256>;
  fn shuffle_xor(thread: u32, value: f32, mask: u32) -> f32 {
    workgroupBarrier();
    shuffled[thread] = value;
    workgroupBarrier();
    return shuffled[thread ^ mask];
  }
  ${stored.map((array) => store(array, code)).join('\n')}
  ${arrays.map(loads).join('\n')}`;
}

const loads = (array: string, id: number): string => `
  fn load_left_row_major_${array}(thread: u32, at: u32, pitch: u32) -> mat4x4<f32> {
    var row: mat4x4<f32>;
    for (var i = 0u; i < 16u; i++) { row[i / 4u][i % 4u] = half_of(${id}u, at, thread % 16u * pitch * 8u + i); }
    return row;
  }
  fn load_result_row_major_${array}(thread: u32, at: u32, pitch: u32) -> mat4x4<f32> {
    var row: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { row[i] = bitcast<vec4<f32>>(${array}[at + thread % 16u * pitch + i]); }
    return row;
  }
  fn load_left_col_major_${array}(thread: u32, at: u32, pitch: u32) -> mat4x4<f32> {
    var row: mat4x4<f32>;
    for (var i = 0u; i < 16u; i++) { row[i / 4u][i % 4u] = half_of(${id}u, at, i * pitch * 8u + thread % 16u); }
    return row;
  }
  fn load_right_row_major_${array}(thread: u32, at: u32, pitch: u32) -> vec4<u32> { return vec4<u32>(${id}u, 0u, at, pitch); }
  fn load_right_col_major_${array}(thread: u32, at: u32, pitch: u32) -> vec4<u32> { return vec4<u32>(${id}u, 1u, at, pitch); }`;

/** Each invocation stores the row that it has, twice as many invocations as rows the same one: as floats, or as vectors of floats or words. */
function store(array: string, code: string): string {
  const of = (type: string) => new RegExp(`\\b${array}: array<${type}`).test(code);
  const statement = of('f32')
    ? `for (var i = 0u; i < 16u; i++) { ${array}[at + thread % 16u * pitch + i] = c[i / 4u][i % 4u]; }`
    : `for (var i = 0u; i < 4u; i++) { ${array}[at + thread % 16u * pitch + i] = ${of('vec4<u32>') ? 'bitcast<vec4<u32>>(c[i])' : 'c[i]'}; }`;
  return `
  fn store_${array}(thread: u32, at: u32, own_row: mat4x4<f32>, pitch: u32) {
    var c = own_row;
    ${statement}
  }`;
}
