import { empty, launch, type Backend, type Tensor } from '../../tensor/index.js';
import { fftTable } from './kernels.js';
import type { transformPlan } from './plan.js';

/** e^{−2πi·k/denominator}, k = 0 … count − 1. */
export function rootsOfUnity(backend: Backend, count: number, denominator: number, squared = false): Tensor<'f32'> {
  const table = empty(backend, [count, 2], 'f32');
  launch(fftTable, { table }, { count, denominator, squared });
  return table;
}

/** The tables of a transform, but for `half`. */
export function transformTables(backend: Backend, { direct, points, size }: ReturnType<typeof transformPlan>) {
  return { table: rootsOfUnity(backend, size, size), chirp: direct ? null : rootsOfUnity(backend, points, 2 * points, true) };
}
