import { cast, packWeight } from '../../ops/index.js';
import type { TensorSource } from '../../nn/index.js';
import { packedDTypes, scope, type PackedDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeProblem } from '../../util/errors.js';

/** The format of a model's large matrices. With 'f16', which needs the webgpu backend, activations are f16 as well. */
export type WeightDType = 'f32' | 'f16' | PackedDType;

/** The formats that every backend has, the largest first. */
export const portableWeightDTypes: readonly Exclude<WeightDType, 'f16'>[] = ['f32', ...packedDTypes];

/** All formats. */
export const weightDTypes: readonly WeightDType[] = [...portableWeightDTypes, 'f16'];

/**
 * The format of a parameter of a model loaded in `dtype`: that format for the projections in, to Δ, B and C, and out, the
 * embedding and the head. The projection to the step sizes, which decide how long the state remembers, has at least int8.
 * The others are small, or are the dynamics themselves (A, D, Δ's bias), and stay f32.
 */
export function weightFormat(key: string, dtype: WeightDType): WeightDType {
  if (/(^|\.)dt_proj\.weight$/.test(key)) return dtype === 'int4' ? 'int8' : dtype;
  return /(^|\.)(in_proj|x_proj|out_proj|embeddings|lm_head)\.weight$/.test(key) ? dtype : 'f32';
}

/**
 * Parameters of `source`, the large matrices among them in the format `dtype` (`weightFormat`); what `source` made of those is freed.
 * @throws ArgumentError when dtype is not one of `weightDTypes`
 */
export function packedParameters(source: TensorSource, dtype: WeightDType): TensorSource {
  checkWeightDType('packedParameters', dtype);
  return (key, request) => {
    const format = weightFormat(key, dtype);
    return format === 'f32' ? source(key, request) : scope(() => inFormat(source(key, request), format));
  };
}

/** A weight [N,K] f32 in another format. */
export const inFormat = (weight: Tensor, format: Exclude<WeightDType, 'f32'>): Tensor =>
  format === 'f16' ? cast(weight, 'f16') : packWeight(weight, format);

/** What a weight in a format must stay below in magnitude: half precision rounds to infinity from there on, the others with floats. */
export const largestOf = (format: WeightDType): number => (format === 'f16' ? 65520 : format === 'f32' ? Infinity : 2 ** 128 - 2 ** 119);

/** @throws ArgumentError when dtype is not one of `weightDTypes` */
export function checkWeightDType(operation: string, dtype: WeightDType): void {
  if (weightDTypes.includes(dtype)) return;
  throw new ArgumentError(
    describeProblem({ operation, argument: 'dtype', expected: weightDTypes.join(', '), got: dtype }),
  );
}
