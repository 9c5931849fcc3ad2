/** WGSL of which keys a query sees, and where rows of numbers are. */
import { vectorOf } from '../../../wgsl/vectors.js';
import type { DType, GpuBinding, GpuLaunch } from '../../../tensor/index.js';
import { pageLength } from '../reference.js';

/** The sizes that all of attention's kernels have. */
export type Sizes = 'batch' | 'length' | 'heads' | 'kvHeads' | 'size' | 'pagesPerRow' | 'window' | 'scale';

/** The optional buffers that say where things are. */
export type Places = 'positions' | 'begins' | 'pages';

/** Multiplications that a slow GPU does in a second or so: a dispatch that takes several is taken for a hanging one. */
export const mostWork = 2 ** 36;

/** The buffers that `placesCode` reads. */
export const placesOf = ({ has }: Pick<GpuLaunch<Places>, 'has'>): Places[] => (['positions', 'begins', 'pages'] as const).filter((name) => has(name));

/**
 * `positions_before(b)`; `first_seen(b, t, own)`, the first position that query t, at position `own`, sees, which never falls along a row
 * of documents; and `key_row(b, j, head)`, in heads.
 */
export function placesCode({ has }: Pick<GpuLaunch<Places>, 'has'>): string {
  return `
  fn positions_before(b: u32) -> u32 { return ${has('positions') ? 'u32(positions[p.positions_at + b])' : '0u'}; }
  fn first_seen(b: u32, t: u32, own: u32) -> u32 {
    let first = ${has('begins') ? 'u32(max(begins[p.begins_at + b * p.length + t], 0))' : '0u'};
    return select(first, max(first, own + 1u - min(own + 1u, p.window)), p.window > 0u);
  }
  fn key_row(b: u32, j: u32, head: u32) -> u32 {
    ${
      has('pages')
        ? `let page = u32(pages[p.pages_at + b * p.pagesPerRow + j / ${pageLength}u]);
    return (page * ${pageLength}u + j % ${pageLength}u) * p.kvHeads + head;`
        : 'return (b * p.length + j) * p.kvHeads + head;'
    }
  }`;
}

/** A buffer whose rows are a head's numbers. */
export interface HeadRows {
  readonly binding: GpuBinding;
  /** `fn <name>_four(row, c) -> vec4<f32>`: numbers 4c … 4c + 3 of a row, zero beyond its end; of what is only read. */
  readonly read: string;
  /** `fn <name>_put(row, c, four: vec4<f32>)`: stores what of them there is; of what is written. */
  readonly write: string;
}

/** @param pitch WGSL of the elements from one row to the next, and their number */
export function headRows<B extends string>(
  { parameters: { size }, dtype, aligned }: Pick<GpuLaunch<B, 'size'>, 'parameters' | 'dtype' | 'aligned'>,
  name: B,
  [pitch, count]: readonly [pitch: string, count: number],
): HeadRows {
  const type: DType = dtype(name) ?? 'f32';
  const lanes = size % 4 === 0 && count % 4 === 0 && aligned(4, name) ? 4 : 1;
  const element = vectorOf(lanes, type);
  const at = lanes === 4 ? `p.${name}_at + row * (${pitch} / 4u) + c` : `p.${name}_at + row * ${pitch} + 4u * c`;
  const guarded = (lane: number, statement: string) => `if (4u * c + ${lane}u < ${size}u) { ${statement} }`;
  return {
    binding: { name, as: element },
    read: `
  fn ${name}_four(row: u32, c: u32) -> vec4<f32> {
    var four = vec4<f32>();
    ${
      lanes === 4
        ? `if (c < ${size / 4}u) { four = vec4<f32>(${name}[${at}]); }`
        : [0, 1, 2, 3].map((lane) => guarded(lane, `four[${lane}] = f32(${name}[${at} + ${lane}u]);`)).join('\n    ')
    }
    return four;
  }`,
    write: `
  fn ${name}_put(row: u32, c: u32, four: vec4<f32>) {
    ${
      lanes === 4
        ? `if (c < ${size / 4}u) { ${name}[${at}] = ${element}(four); }`
        : [0, 1, 2, 3].map((lane) => guarded(lane, `${name}[${at} + ${lane}u] = ${type}(four[${lane}]);`)).join('\n    ')
    }
  }`,
  };
}
