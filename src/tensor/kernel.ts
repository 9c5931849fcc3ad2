import type { Division } from './division.js';
import type { DType, PackedDType } from './dtype.js';
import type { GpuFeatures, GpuKernel } from './gpu-kernel.js';

/** How a kernel uses one of its buffers. */
export interface BufferSpec {
  readonly access: 'in' | 'out' | 'inout';
  readonly dtype: DType;
  readonly optional: boolean;
  /** Whether an f16 tensor may be given in place of an f32 one, on a backend that has them. */
  readonly half: boolean;
  /** Whether it may on the CPU too, whose kernel is told by a flag: keys and values, and copies. */
  readonly stored: boolean;
}

/** What a kernel parameter is: all travel as numbers; the C++ side gets int64, float or bool. */
export type ParameterKind = 'int' | 'float' | 'flag';

export type BufferSpecs = Readonly<Record<string, BufferSpec>>;
export type ParameterSpecs = Readonly<Record<string, ParameterKind>>;

type ReferenceArray<S extends BufferSpec> = S['dtype'] extends 'i32' ? Int32Array : S['dtype'] extends PackedDType ? Uint8Array : Float64Array;

/** The arrays a reference kernel works on: float64 for 'f32' buffers, bytes for packed ones, null for one not given. */
export type ReferenceBuffers<B extends BufferSpecs> = {
  readonly [K in keyof B]: B[K]['optional'] extends true ? ReferenceArray<B[K]> | null : ReferenceArray<B[K]>;
};

export type ParameterValues<P extends ParameterSpecs> = {
  readonly [K in keyof P]: P[K] extends 'flag' ? boolean : number;
};

/**
 * A kernel: its name, its buffers and parameters in launch order, and what it computes, in plain float64 TypeScript. Every
 * backend runs kernels by this declaration; the C++ argument structures are generated from it.
 */
export interface Kernel<B extends BufferSpecs = BufferSpecs, P extends ParameterSpecs = ParameterSpecs> {
  readonly name: string;
  readonly buffers: B;
  readonly parameters: P;
  /** `name(in f32 u, …; int batch, …)`: compiled kernels carry the same text, so that a stale build is noticed. */
  readonly signature: string;
  /** The truth: float64, never optimised. */
  readonly reference: (buffers: ReferenceBuffers<B>, parameters: ParameterValues<P>) => void;
  /** Floating-point operations of a launch (an exp counts as one), for `inspect` and benchmarks. */
  readonly operations: (parameters: ParameterValues<P>) => number;
  /** Elements a launch really reads or writes, of the buffers of which that is fewer than their views hold. */
  readonly touched: (parameters: ParameterValues<P>) => Partial<Record<keyof B & string, number>>;
  /** A buffer that a launch of few rows reads once, in order: `<name>_streamed` in the `cpu.cc` says which launches, and how much. */
  readonly streams: (keyof B & string) | undefined;
  /** Whether backends may lack it: there is no C++ for it, and what launches it asks `supports` first. */
  readonly optional: boolean;
  /** What a GPU must have to run it, of an optional kernel. */
  readonly needs: (gpu: GpuFeatures) => boolean;
  /** How a launch can be two, the best way first; undefined where it cannot. */
  readonly divisions: ((parameters: ParameterValues<P>) => readonly Division<keyof B & string, keyof P & string>[]) | undefined;
  /** How a GPU runs it. */
  readonly webgpu: GpuKernel<keyof B & string, keyof P & string> | undefined;
}

const spec = <A extends BufferSpec['access'], D extends DType, O extends boolean>(access: A, dtype: D, optional: O, half = false, stored = false) => ({
  access,
  dtype,
  optional,
  half,
  stored,
});

const numbers = <A extends BufferSpec['access'], O extends boolean>(access: A, optional: O) => ({
  f32: spec(access, 'f32', optional),
  float: spec(access, 'f32', optional, true),
  stored: spec(access, 'f32', optional, true, true),
  i32: spec(access, 'i32', optional),
});

const packed = <A extends BufferSpec['access']>(access: A) => ({
  bf16: spec(access, 'bf16', false),
  int8: spec(access, 'int8', false),
  int4: spec(access, 'int4', false),
});

/** Buffer declarations: `input.f32`, `optionalInput.float` (f32 or, not on the CPU, f16), `inout.stored` (f32 or f16), `output.i32`, `input.int8`, … */
export const input = { ...numbers('in', false), ...packed('in') };
export const optionalInput = numbers('in', true);
export const output = { ...numbers('out', false), ...packed('out') };
export const optionalOutput = { ...numbers('out', true), bf16: spec('out', 'bf16', true) };
export const inout = numbers('inout', false);
export const optionalInout = numbers('inout', true);

/** Declares a kernel; see `Kernel`. */
export function defineKernel<const B extends BufferSpecs, const P extends ParameterSpecs>(
  name: string,
  declaration: {
    buffers: B;
    parameters: P;
    reference: Kernel<B, P>['reference'];
    operations?: Kernel<B, P>['operations'];
    touched?: Kernel<B, P>['touched'];
    streams?: NonNullable<Kernel<B, P>['streams']>;
    optional?: boolean;
    needs?: Kernel<B, P>['needs'];
    divisions?: Kernel<B, P>['divisions'];
    webgpu?: Kernel<B, P>['webgpu'];
  },
): Kernel<B, P> {
  const { buffers, parameters, reference, streams, divisions, webgpu } = declaration;
  const { operations = () => 0, touched = () => ({}), optional = false, needs = () => true } = declaration;
  const bufferList = Object.entries(buffers).map(
    ([key, { access, dtype, optional }]) => `${access} ${dtype} ${key}${optional ? '?' : ''}`,
  );
  const parameterList = Object.entries(parameters).map(([key, kind]) => `${kind} ${key}`);
  const signature = `${name}(${bufferList.join(', ')}; ${parameterList.join(', ')})`;
  return { name, buffers, parameters, signature, reference, operations, touched, streams, optional, needs, divisions, webgpu };
}
