import { fill } from '../backend/memory/kernels.js';
import { empty, launch, type Backend, type Shape, type Tensor } from '../tensor/index.js';

/** A float32 tensor of one value everywhere. */
export function full(backend: Backend, shape: Shape, value: number): Tensor {
  const values = empty(backend, shape);
  if (values.size > 0) launch(fill, { values }, { value, count: values.size });
  return values;
}

/** A float32 tensor of zeros. */
export const zeros = (backend: Backend, shape: Shape): Tensor => full(backend, shape, 0);
