import type { Tensor } from '../../tensor/index.js';
import { describeProblem, DTypeError } from '../../util/errors.js';

/**
 * Throws unless `tensor` holds integers.
 * @throws DTypeError naming the operation and the argument
 */
export function expectIntegers(operation: string, argument: string, tensor: Tensor): void {
  if (tensor.dtype === 'i32') return;
  throw new DTypeError(
    describeProblem({
      operation,
      argument,
      expected: 'i32',
      got: tensor.dtype,
      hint: "token numbers are made with tensor(backend, values, shape, 'i32')",
    }),
  );
}
