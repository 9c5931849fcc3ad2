import { cast, packWeight } from '../ops/index.js';
import type { Packing, TensorSource } from '../nn/index.js';
import { packedDTypes, scope, type PackedDType, type Tensor } from '../tensor/index.js';
import { ArgumentError, BackendError } from '../util/errors.js';

/** The format of a model's large matrices. With 'f16', which needs the webgpu backend, activations are f16 as well. */
export type WeightDType = 'f32' | 'f16' | PackedDType;

/** The formats that every backend has, the largest first. */
export const portableWeightDTypes: readonly Exclude<WeightDType, 'f16'>[] = ['f32', ...packedDTypes];

/** All formats. */
export const weightDTypes: readonly WeightDType[] = [...portableWeightDTypes, 'f16'];

/** The format of a parameter of a model loaded in `dtype`, by what formats the parameter stands (`ParameterRequest.packing`). */
export function weightFormat(packing: Packing, dtype: WeightDType): WeightDType {
  if (packing === 'never') return 'f32';
  return packing === 'atLeastInt8' && dtype === 'int4' ? 'int8' : dtype;
}

/**
 * Parameters of `source`, the large matrices among them in the format `dtype` (`weightFormat`); what `source` made of those is freed.
 * @throws ArgumentError when dtype is not one of `weightDTypes`
 */
export function packedParameters(source: TensorSource, dtype: WeightDType): TensorSource {
  checkWeightDType('packedParameters', dtype);
  return (key, request) => {
    const format = weightFormat(request.packing ?? 'never', dtype);
    return format === 'f32' ? source(key, request) : scope(() => inFormat(source(key, request), format));
  };
}

/** A weight [N,K] f32 in another format. */
export function inFormat(weight: Tensor, format: Exclude<WeightDType, 'f32'>): Tensor {
  if (format !== 'f16') return packWeight(weight, format);
  if (weight.backend.kind === 'cpu') throw new BackendError('the CPU multiplies by no f16 weights. Hint: bf16, or the webgpu backend');
  return cast(weight, 'f16');
}

/** What a weight in a format must stay below in magnitude: half precision rounds to infinity from there on, the others with floats. */
export const largestOf = (format: WeightDType): number => (format === 'f16' ? 65520 : format === 'f32' ? Infinity : 2 ** 128 - 2 ** 119);

/** @throws ArgumentError when dtype is not one of `weightDTypes` */
export function checkWeightDType(operation: string, dtype: WeightDType): void {
  if (weightDTypes.includes(dtype)) return;
  throw new ArgumentError({ operation, argument: 'dtype', expected: weightDTypes.join(', '), got: dtype });
}
