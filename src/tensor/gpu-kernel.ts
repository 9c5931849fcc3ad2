import type { DType } from './dtype.js';

/** What code for a GPU may be made of. */
export interface GpuFeatures {
  /** Half precision in shaders. */
  readonly f16: boolean;
  /** Sizes a subgroup may have; null where shaders have no subgroup operations. */
  readonly subgroups: { readonly smallest: number; readonly largest: number } | null;
  /** Whether a subgroup multiplies 16×16 matrices of f16 into f32. */
  readonly matrices: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Invocations of a workgroup. */
  readonly workgroupSize: number;
  /** Storage buffers that a dispatch may use. */
  readonly storageBuffers: number;
  /** Bytes of a buffer that a dispatch may use. */
  readonly bindingBytes: number;
}

/** Invocations of every subgroup; null where there are none, or their number varies. */
export const subgroupSize = ({ subgroups }: Pick<GpuFeatures, 'subgroups'>): number | null =>
  subgroups !== null && subgroups.smallest === subgroups.largest ? subgroups.largest : null;

/** Bytes that a dispatch can use wherever they lie: what is bound begins at a multiple of up to 256 bytes and ends at one of 16. */
export const usableBytes = ({ bindingBytes }: Pick<GpuFeatures, 'bindingBytes'>): number => bindingBytes - 256 - 16;

/** How code sees a buffer. */
export interface GpuBinding {
  /** A buffer of the kernel or of `scratch`. */
  readonly name: string;
  /**
   * WGSL type of an element, where it is not the buffer's own: a vector of it, or 'u32' words. The view must start at a
   * multiple of it (`GpuLaunch.aligned`). Packed weights are u32 words unless said otherwise.
   */
  readonly as?: string;
  /** 'read' for a buffer that this dispatch only reads although the kernel writes it. */
  readonly access?: 'read' | 'read_write';
  /** The elements that the code sees; default: all of them. */
  readonly part?: { readonly first: number; readonly size: number } | undefined;
}

/**
 * One dispatch. The code is WGSL without declarations of what it is given: `p` (a uniform struct: every parameter of the
 * kernel as u32, or f32 for floats; `x_at`, the index of the first element of buffer x in the array of that name; and
 * `numbers`), the arrays named like the buffers, and the function `flat_workgroup(id, count)` that undoes `fold`. `enable`
 * directives follow from what the code uses.
 */
export interface GpuDispatch {
  /** Tells the code from others of the same kernel; dtypes, vector types and the set of buffers are told apart anyway. */
  readonly variant: string;
  readonly code: () => string;
  readonly buffers: readonly (string | GpuBinding)[];
  /** x, y, z; each at most 65,535: `fold` a number that may be larger. */
  readonly workgroups: readonly [x: number, y?: number, z?: number];
  /** Further u32 members of `p`. */
  readonly numbers?: Readonly<Record<string, number>>;
}

/** What a kernel's dispatches follow from. */
export interface GpuLaunch<B extends string = string, P extends string = string> {
  readonly gpu: GpuFeatures;
  /** Flags are 0 or 1. Of floats the sign alone (−1, 0, 1): their values change from step to step, and code reads them from `p`. */
  readonly parameters: Readonly<Record<P, number>>;
  /** The dtype of a buffer, undefined where it was left out. */
  readonly dtype: (name: B) => DType | undefined;
  /** Whether the buffer was given. */
  readonly has: (name: B) => boolean;
  /** Whether every one of the given buffers among `names` starts at a multiple of `elements` of its elements. */
  readonly aligned: (elements: number, ...names: readonly B[]) => boolean;
}

/** What a launch does, in order. */
export interface GpuWork {
  readonly dispatches: readonly GpuDispatch[];
  /** Memory for this launch alone; its contents are undefined at first. */
  readonly scratch?: Readonly<Record<string, { readonly dtype: DType; readonly size: number }>>;
}

/** A kernel for GPUs: from its buffers and parameters to dispatches. Launches with equal code share a pipeline. */
export type GpuKernel<B extends string = string, P extends string = string> = (launch: GpuLaunch<B, P>) => GpuWork;

/** Workgroups of a dispatch of `count` in all: x·y ≥ count with both within the limit. Surplus ones must do nothing. */
export function fold(count: number): [x: number, y: number] {
  const y = Math.max(1, Math.ceil(count / 65535));
  return [Math.ceil(count / y), y];
}
