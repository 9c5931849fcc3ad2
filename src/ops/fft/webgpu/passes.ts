/**
 * Complex transforms of 2^m points along columns that lie side by side: arrays [groups, points, columns] of pairs. As on the CPU, places of
 * frequencies have their bits reversed, and forward and inverse transforms mirror each other. A dispatch does the butterflies of up to 8 bits of
 * the place in workgroup memory; longer transforms take several.
 */
import { fold, type GpuBinding, type GpuDispatch } from '../../../tensor/index.js';

/** Bits of a place that a dispatch is about. */
const mostBits = 8;
const workgroupSize = 256;
/** Numbers in workgroup memory: 16 KiB. */
const tilePoints = 2048;

/** WGSL of complex numbers. */
export const complexCode = `
  fn multiplied(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> { return vec2<f32>(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
  fn conjugate(a: vec2<f32>) -> vec2<f32> { return vec2<f32>(a.x, -a.y); }
  fn times_i(a: vec2<f32>) -> vec2<f32> { return vec2<f32>(-a.y, a.x); }
  fn swapped(a: vec2<f32>) -> vec2<f32> { return a.yx; }`;

/** A buffer of pairs. */
export const pairs = (name: string, access?: 'read'): GpuBinding => ({ name, as: 'vec2<f32>', ...(access ? { access } : {}) });

/** WGSL of entry `k` of a table of pairs. */
export const entry = (table: string, k: string): string => `${table}[p.${table}_at / 2u + ${k}]`;

/** WGSL of the place of frequency `k`, or the frequency at place `k`, of 2^bits. */
export const reversed = (k: string, bits: number): string => (bits === 0 ? '0u' : `(reverseBits(${k}) >> ${32 - bits}u)`);

/** Cuts the bits of a place into runs of about equal length, the highest first. */
function runsOf(bits: number): number[] {
  const count = Math.max(1, Math.ceil(bits / mostBits));
  return Array.from({ length: count }, (_, i) => Math.floor((bits * (i + 1)) / count) - Math.floor((bits * i) / count));
}

export interface Columns {
  /** Tells the code from others of the kernel. */
  readonly variant: string;
  /** The array that is transformed in place: a buffer, and WGSL of where the array begins in it, in pairs. */
  readonly buffer: string;
  readonly begin?: string;
  readonly groups: number;
  readonly points: number;
  readonly columns: number;
  /** Further buffers that `load` and `store` use. */
  readonly buffers?: readonly (string | GpuBinding)[];
  readonly numbers?: Readonly<Record<string, number>>;
  readonly functions?: string;
  /** WGSL of what the first dispatch reads at `group`, `point`, `column` (u32); default: the array. */
  readonly load?: string;
  /** WGSL statements of what the last dispatch does with `value` there; default: back to the array. */
  readonly store?: string;
}

/** The dispatches of the transforms of all columns, forward or (times `points`) inverse. The kernel's `table` has `points` entries. */
export function transforms(all: Columns, inverse: boolean): GpuDispatch[] {
  const bits = Math.log2(all.points);
  const runs = runsOf(bits);
  // The bits before a run are of other transforms by then.
  let above = 0;
  const passes = runs.map((run) => ({ run, size: bits - (above += run) + run }));
  const ordered = inverse ? passes.reverse() : passes;
  return ordered.map(({ run, size }, i) => pass(all, inverse, run, size, { first: i === 0, last: i === passes.length - 1 }));
}

/** Butterflies of the `run` highest bits of transforms of 2^size points, the parts of what is transformed. */
function pass(all: Columns, inverse: boolean, run: number, size: number, { first, last }: { first: boolean; last: boolean }): GpuDispatch {
  const { variant, buffer, begin = '0u', groups, points, columns, buffers = [], numbers = {}, functions = '', load, store } = all;
  const radix = 2 ** run;
  const rest = 2 ** (size - run);
  const width = tilePoints / Math.max(radix, 8);
  const tiles = Math.ceil((rest * columns) / width);
  const parts = groups * (points / 2 ** size);
  const at = `${buffer}[base + i * stride + q]`;
  const own = all.load === undefined || all.store === undefined || !(first && last);
  return {
    variant: `${variant} ${inverse ? 'inverse' : 'forward'} ${points} ${size} ${run}`,
    buffers: [...(own ? [pairs(buffer)] : []), pairs('table'), ...((first && load !== undefined) || (last && store !== undefined) ? buffers : [])],
    numbers: { ...numbers, columns, tiles, parts },
    workgroups: fold(parts * tiles),
    code: () => `
      ${complexCode}
      ${(first && load !== undefined) || (last && store !== undefined) ? functions : ''}
      var<workgroup> tile: array<vec2<f32>, ${radix * width}>;
      ${butterflies(inverse)}
      @compute @workgroup_size(${workgroupSize})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let flat = flat_workgroup(id, count);
        if (flat >= p.parts * p.tiles) { return; }
        let part = flat / p.tiles;
        let first_column = flat % p.tiles * ${width}u;
        let stride = ${rest}u * p.columns;
        let group = part / ${points / 2 ** size}u;
        let first_point = part % ${points / 2 ** size}u * ${2 ** size}u;
        let base = ${begin} + (group * ${points}u + first_point) * p.columns;
        for (var e = thread; e < ${radix * width}u; e += ${workgroupSize}u) {
          let i = e / ${width}u;
          let q = first_column + e % ${width}u;
          if (q < stride) {
            let column = q % p.columns;
            let j = q / p.columns;
            let point = first_point + i * ${rest}u + j;
            var value = ${first && load !== undefined ? load : at};
            ${inverse && rest > 1 ? `value = multiplied(value, conjugate(${twiddle(points, size, run)}));` : ''}
            tile[e] = value;
          }
        }
        workgroupBarrier();
        ${stages(run, inverse, width, points)}
        for (var e = thread; e < ${radix * width}u; e += ${workgroupSize}u) {
          let i = e / ${width}u;
          let q = first_column + e % ${width}u;
          if (q < stride) {
            let column = q % p.columns;
            let j = q / p.columns;
            let point = first_point + i * ${rest}u + j;
            var value = tile[e];
            ${!inverse && rest > 1 ? `value = multiplied(value, ${twiddle(points, size, run)});` : ''}
            ${last && store !== undefined ? store : `${at} = value;`}
          }
        }
      }`,
  };
}

const twiddle = (points: number, size: number, run: number): string =>
  entry('table', `(j * ${reversed('i', run)}) * ${points / 2 ** size}u`);

/** Butterflies of two and four numbers of `tile`, `step` apart. */
const butterflies = (inverse: boolean): string => `
  fn two(at: u32, step: u32) {
    let a = tile[at];
    let b = tile[at + step];
    tile[at] = a + b;
    tile[at + step] = a - b;
  }
  fn quarter(a: vec2<f32>) -> vec2<f32> { return vec2<f32>(${inverse ? '-a.y, a.x' : 'a.y, -a.x'}); }
  fn four(at: u32, step: u32, w1: vec2<f32>, w2: vec2<f32>, w3: vec2<f32>) {
    let a = tile[at];
    ${
      inverse
        ? `
    let b = multiplied(tile[at + step], conjugate(w2));
    let c = multiplied(tile[at + 2u * step], conjugate(w1));
    let d = multiplied(tile[at + 3u * step], conjugate(w3));
    let s0 = a + b;
    let s1 = c + d;
    let s2 = a - b;
    let s3 = quarter(c - d);
    tile[at] = s0 + s1;
    tile[at + step] = s2 + s3;
    tile[at + 2u * step] = s0 - s1;
    tile[at + 3u * step] = s2 - s3;`
        : `
    let b = tile[at + step];
    let c = tile[at + 2u * step];
    let d = tile[at + 3u * step];
    let s0 = a + c;
    let s1 = a - c;
    let s2 = b + d;
    let s3 = quarter(b - d);
    tile[at] = s0 + s2;
    tile[at + step] = multiplied(s0 - s2, w2);
    tile[at + 2u * step] = multiplied(s1 + s3, w1);
    tile[at + 3u * step] = multiplied(s1 - s3, w3);`
    }
  }`;

/** The stages of transforms of 2^run numbers of the tile: by fours, and by twos the last bit of an odd number of them. */
function stages(run: number, inverse: boolean, width: number, points: number): string {
  const radix = 2 ** run;
  const all: string[] = [];
  let bits = run;
  while (bits >= 2) {
    const [size, quarter] = [2 ** bits, 2 ** (bits - 2)];
    const root = (k: number) => entry('table', `${k}u * j * ${points / size}u`);
    all.push(`
        for (var e = thread; e < ${(radix / 4) * width}u; e += ${workgroupSize}u) {
          let u = e / ${width}u;
          let j = u % ${quarter}u;
          four((u / ${quarter}u * ${size}u + j) * ${width}u + e % ${width}u, ${quarter * width}u, ${[1, 2, 3].map(root).join(', ')});
        }
        workgroupBarrier();`);
    bits -= 2;
  }
  if (bits === 1) {
    all.push(`
        for (var e = thread; e < ${(radix / 2) * width}u; e += ${workgroupSize}u) {
          two(e / ${width}u * ${2 * width}u + e % ${width}u, ${width}u);
        }
        workgroupBarrier();`);
  }
  return (inverse ? all.reverse() : all).join('\n');
}
