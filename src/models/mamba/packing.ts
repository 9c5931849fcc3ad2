import { packWeight } from '../../ops/index.js';
import type { TensorSource } from '../../nn/index.js';
import { packedDTypes, scope, type PackedDType } from '../../tensor/index.js';
import { ArgumentError, describeProblem } from '../../util/errors.js';

/** The format of a model's large matrices. */
export type WeightDType = 'f32' | PackedDType;

/** All formats, the largest first. */
export const weightDTypes: readonly WeightDType[] = ['f32', ...packedDTypes];

/**
 * Whether a parameter is one of the large matrices, which a format for inference applies to: the projections in, to Δ, B and
 * C, and out, the embedding and the head. The others are small, or decide the dynamics of the state (A, Δ), and stay f32.
 */
export const isPackable = (key: string): boolean => /(^|\.)(in_proj|x_proj|out_proj|embeddings|lm_head)\.weight$/.test(key);

/**
 * Parameters of `source`, the large matrices among them packed; what `source` made of those is freed.
 * @throws ArgumentError when dtype is not one of `weightDTypes`
 */
export function packedParameters(source: TensorSource, dtype: WeightDType): TensorSource {
  checkWeightDType('packedParameters', dtype);
  if (dtype === 'f32') return source;
  return (key, request) => (isPackable(key) ? scope(() => packWeight(source(key, request), dtype)) : source(key, request));
}

/** @throws ArgumentError when dtype is not one of `weightDTypes` */
export function checkWeightDType(operation: string, dtype: WeightDType): void {
  if (weightDTypes.includes(dtype)) return;
  throw new ArgumentError(
    describeProblem({ operation, argument: 'dtype', expected: weightDTypes.join(', '), got: dtype }),
  );
}
