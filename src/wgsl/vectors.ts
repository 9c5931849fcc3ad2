/** Pieces of WGSL for kernels that work on one or four neighbouring elements at a time. */
import type { GpuLaunch } from '../tensor/index.js';

/** A u32 literal. */
export const u = (value: number): string => `${value}u`;

/** Elements that are loaded and stored together. */
export type Lanes = 1 | 4;

/** 4 where the extents and pitches are multiples of it and the buffers start at one. */
export const lanesFor = (extents: readonly number[], aligned: boolean): Lanes => (aligned && extents.every((extent) => extent % 4 === 0) ? 4 : 1);

/** `lanesFor` buffers of a launch: those among `names` that were given. */
export const lanesOf = <B extends string>({ aligned }: Pick<GpuLaunch<B>, 'aligned'>, extents: readonly number[], names: readonly B[]): Lanes =>
  lanesFor(extents, aligned(4, ...names));

/** WGSL's type of `lanes` numbers. */
export const vectorOf = (lanes: number, scalar = 'f32'): string => (lanes === 1 ? scalar : `vec${lanes}<${scalar}>`);

/**
 * f32 `value` as `lanes` numbers of a dtype. Halves end at 65504: what is larger becomes that instead of infinite, and a NaN stays one.
 */
export function saturated(lanes: number, dtype: string, value: string): string {
  if (dtype !== 'f16') return value;
  const largest = `${vectorOf(lanes)}(65504.0)`;
  return `${vectorOf(lanes, 'f16')}(select(${value}, clamp(${value}, -${largest}, ${largest}), abs(${value}) > ${largest}))`;
}

/** A vector whose elements are the expressions that `element` gives. */
export const gather = (lanes: number, element: (lane: number) => string): string =>
  lanes === 1 ? element(0) : `${vectorOf(lanes)}(${Array.from({ length: lanes }, (_, lane) => element(lane)).join(', ')})`;

/** Element `lane` of the vector `name`. */
export const laneOf = (lanes: number, name: string, lane: number): string => (lanes === 1 ? name : `${name}.${'xyzw'[lane] ?? ''}`);

/** Statements for each of 0 … count − 1. */
export const repeat = (count: number, statement: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => statement(i)).join('\n');
