/** How kernels of products read their factors: WGSL functions that give 4 or 8 neighbouring elements, zero outside. */
import type { DType, GpuBinding } from '../../tensor/index.js';

/**
 * One factor of a product. Its elements have an outer index (rows of the left factor, columns of the right one) and a depth
 * (the index that is summed over).
 */
export interface Factor {
  readonly binding: GpuBinding;
  /** The index in which neighbours in memory differ. */
  readonly along: 'depth' | 'outer';
  /** The index in which neighbouring threads should differ to read neighbouring memory. */
  readonly threadsAlong: 'depth' | 'outer';
  /** Tells the code from that of other factors of the same name. */
  readonly variant: string;
  /** `fn <name>_four(batch, outer, depth) -> vec4<f32>`: four elements along `along`, from a multiple of 4 on. */
  readonly four: string;
  /**
   * Where eight are in memory as they are needed (two vectors of f32, or one of halves): `vector` is WGSL for those from an
   * index on, `at` the index of those at a position, `step` what it grows by with each 1 of depth; null otherwise.
   */
  readonly whole: {
    readonly vector: (index: string) => string;
    readonly at: (batch: string, outer: string, depth: string) => string;
    readonly step: string;
    /** The largest outer index that eight may start at. */
    readonly last: string;
  } | null;
  /** `fn <name>_eight(batch, outer, depth) -> vec4<u32>`: eight as pairs of halves, from a multiple of 8 on. */
  readonly eight: string;
}

/** A matrix in memory, rows `pitch` apart. Names of numbers are WGSL expressions. */
export interface MatrixInMemory {
  readonly name: string;
  readonly dtype: DType | undefined;
  readonly along: 'depth' | 'outer';
  readonly outer: string;
  readonly depth: string;
  readonly pitch: string;
  /** Elements from one product's to the next. */
  readonly stride: string;
  /** Elements that are read at once: all extents, the pitch, the stride and the start are multiples of it. */
  readonly lanes: 1 | 4 | 8;
  /** Whether elements are rounded to half precision. */
  readonly halves: boolean;
}

/** To half precision and back. (Packing and unpacking does not: a compiler takes the two for nothing.) */
export const rounded = (v: string): string => `vec4<f32>(vec4<f16>(${v}))`;

/** Eight elements as two times four. */
export const eightOfFours = (name: string, along: 'depth' | 'outer'): string => `
  fn ${name}_eight(batch: u32, outer: u32, depth: u32) -> vec4<u32> {
    let first = ${name}_four(batch, outer, depth);
    let second = ${name}_four(batch, ${along === 'depth' ? 'outer, depth + 4u' : 'outer + 4u, depth'});
    return vec4<u32>(pack2x16float(first.xy), pack2x16float(first.zw), pack2x16float(second.xy), pack2x16float(second.zw));
  }`;

export function matrixFactor({ name, dtype = 'f32', along, outer, depth, pitch, stride, lanes, halves }: MatrixInMemory): Factor {
  const [row, column, rows, columns] = along === 'depth' ? ['outer', 'depth', outer, depth] : ['depth', 'outer', depth, outer];
  const at = `batch * ${stride} + ${row} * ${pitch} + ${column}`;
  const direct = lanes === 8 && dtype === 'f16';
  const vector = `vec4<${dtype}>`;
  const value = halves && dtype === 'f32' ? rounded('v') : 'v';
  const outside = `if (${row} >= ${rows} || ${column} >= ${columns}) { return vec4`;
  const four =
    lanes === 1
      ? `
  fn ${name}_four(batch: u32, outer: u32, depth: u32) -> vec4<f32> {
    ${outside}<f32>(); }
    let at = p.${name}_at + ${at};
    let last = ${columns} - ${column} - 1u;
    let read = vec4<f32>(f32(${name}[at]), f32(${name}[at + min(1u, last)]), f32(${name}[at + min(2u, last)]), f32(${name}[at + min(3u, last)]));
    let v = select(vec4<f32>(), read, vec4<u32>(0u, 1u, 2u, 3u) <= vec4<u32>(last));
    return ${value};
  }`
      : `
  fn ${name}_four(batch: u32, outer: u32, depth: u32) -> vec4<f32> {
    ${outside}<f32>(); }
    let v = vec4<f32>(${name}[p.${name}_at + (${at}) / 4u]);
    return ${value};
  }`;
  const eight = direct
    ? `
  fn ${name}_eight(batch: u32, outer: u32, depth: u32) -> vec4<u32> {
    ${outside}<u32>(); }
    return ${name}[p.${name}_at + (${at}) / 8u];
  }`
    : four + eightOfFours(name, along);
  return {
    binding: { name, as: lanes === 1 ? dtype : direct ? 'vec4<u32>' : vector },
    along,
    threadsAlong: along,
    variant: `${name}-${along}${lanes}${halves ? 'h' : ''}`,
    four,
    eight,
    whole:
      lanes === 1
        ? null
        : {
            vector: (index) =>
              direct
                ? `${name}[(${index}) / 8u]`
                : `vec4<u32>(${[0, 1].flatMap((i) => ['xy', 'zw'].map((pair) => `pack2x16float(vec4<f32>(${name}[(${index}) / 4u + ${i}u]).${pair})`)).join(', ')})`,
            at: (b, o, d) =>
              `p.${name}_at * ${direct ? 8 : 4}u + (${b}) * ${stride} + ${along === 'depth' ? `(${o}) * ${pitch} + ${d}` : `(${d}) * ${pitch} + ${o}`}`,
            step: along === 'depth' ? '1u' : pitch,
            last: along === 'depth' ? `${outer} - 1u` : `${outer} - 8u`,
          },
  };
}
