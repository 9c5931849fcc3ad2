import type { Tensor } from '../tensor/index.js';
import type { Random } from '../util/random.js';

/** An input of an operation's case: float32 values (so that every backend starts from the same numbers), or integers. */
export interface CaseInput {
  readonly shape: readonly number[];
  readonly dtype?: 'f32' | 'i32';
  readonly values: ArrayLike<number>;
}

/** The inputs of a case as tensors; asking for a name the case did not declare throws. */
export type CaseTensors = (name: string) => Tensor;

/**
 * One call of an operation. Every case runs on every backend, forward and backward with random cotangents, and is compared
 * with the reference backend; the reference's gradients are compared with central differences of its forward pass.
 */
export interface OperationCase {
  readonly name: string;
  inputs(random: Random): Record<string, CaseInput>;
  run(input: CaseTensors): readonly Tensor[];
  /** Names of the inputs to differentiate by; default: all of dtype f32. */
  readonly differentiable?: readonly string[];
  /**
   * Length of the longest sum behind one output or gradient element: the tolerance grows with its square root. Default 1.
   */
  readonly reductionLength?: number;
  /** What the CPU's kernels round an input to, relative to the largest number of a block of it. Default: nothing is rounded. */
  readonly rounding?: number;
  /** Names of the float inputs that may also be stored in half precision; default: the case has no such form. */
  readonly half?: readonly string[];
  /** Too large for central differences of the reference, which take two passes for each input element. */
  readonly large?: boolean;
}

/** Standard normal float32 values times `scale`, plus `shift`. */
export function normal(random: Random, shape: readonly number[], scale = 1, shift = 0): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { shape, values: Float32Array.from({ length: size }, () => shift + scale * random.normal()) };
}

/** Uniform float32 values in [low, high). */
export function uniform(random: Random, shape: readonly number[], low: number, high: number): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { shape, values: Float32Array.from({ length: size }, () => low + (high - low) * random.uniform()) };
}

/** Uniform integers in [0, bound). */
export function integers(random: Random, shape: readonly number[], bound: number): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { shape, dtype: 'i32', values: Int32Array.from({ length: size }, () => random.integer(bound)) };
}
