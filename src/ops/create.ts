import { fill } from '../backend/memory/kernels.js';
import { empty, launch, type Backend, type Shape, type Tensor } from '../tensor/index.js';

/** A float32 tensor of one value everywhere. */
export function full(backend: Backend, shape: Shape, value: number): Tensor<'f32'> {
  const values = empty(backend, shape, 'f32');
  if (values.size > 0) launch(fill, { values }, { value, count: values.size });
  return values;
}

/** A float32 tensor of zeros. */
export const zeros = (backend: Backend, shape: Shape): Tensor<'f32'> => full(backend, shape, 0);
