import { ArgumentError, describeProblem, describeValue, DisposedError, DTypeError } from '../util/errors.js';
import type { Backend } from './backend.js';
import { packedDTypes, type DType } from './dtype.js';
import { formatShape } from './shape.js';
import { scope } from './scope.js';
import { Tensor } from './tensor.js';

/** Dtypes that operations take, by what they are used as. */
const accepted = {
  f32: ['f32'],
  i32: ['i32'],
  /** Activations and other numbers. */
  float: ['f32', 'f16'],
  /** What a product multiplies by, or a table. */
  weight: ['f32', 'f16', ...packedDTypes],
  packed: packedDTypes,
  any: ['f32', 'f16', 'i32', ...packedDTypes],
} as const satisfies Record<string, readonly DType[]>;

type Accepted = keyof typeof accepted;

/** A tensor that an operation is given, and the dtypes it may have; after a name with `?` null or undefined mean there is none. */
export type Operand = readonly [tensor: Tensor | null | undefined, accepted: Accepted | `${Accepted}?`];

/**
 * Runs a public operation: checks the tensors it is given, then runs `body` in a scope. So whatever an operation makes on the
 * way is freed, also where it throws, and only its results live on.
 * @param operands by argument; all must be of one backend
 * @throws ArgumentError for what is no tensor, or one of another backend; DisposedError for one that was freed; DTypeError
 */
export function operation<T>(name: string, operands: Readonly<Record<string, Operand>>, body: () => T): T {
  expectTensors(name, operands);
  return scope(body);
}

/** What a program without types gives may be anything. */
const isTensor = (value: unknown): value is Tensor => value instanceof Tensor;

/** The checks of `operation`. */
export function expectTensors(operation: string, operands: Readonly<Record<string, Operand>>): void {
  let backend: Backend | undefined;
  let first = '';
  for (const argument in operands) {
    const [given, kind] = operands[argument] as Operand;
    const optional = kind.endsWith('?');
    if (optional && (given === null || given === undefined)) continue;
    if (!isTensor(given)) {
      const expected = `a tensor${optional ? ' or null' : ''}`;
      throw new ArgumentError(describeProblem({ operation, argument, expected, got: describeValue(given) }));
    }
    const tensor = given;
    if (tensor.disposed) {
      throw new DisposedError(
        describeProblem({
          operation,
          argument,
          expected: 'a tensor that lives',
          got: `a tensor ${formatShape(tensor.shape)} that was freed`,
          hint: 'return it from its scope(), or keep() it',
        }),
      );
    }
    const dtypes: readonly DType[] = accepted[(optional ? kind.slice(0, -1) : kind) as Accepted];
    if (!dtypes.includes(tensor.dtype)) {
      throw new DTypeError(
        describeProblem({
          operation,
          argument,
          expected: dtypes.join(' or '),
          got: tensor.dtype,
          ...(dtypes.includes('i32') ? { hint: "integers are made with tensor(backend, values, shape, 'i32')" } : {}),
        }),
      );
    }
    if (backend === undefined) {
      ({ backend } = tensor);
      first = argument;
    } else if (tensor.backend !== backend) {
      const expected = `on ${backend.description}, as ${first} is`;
      const got = `on another backend, ${tensor.backend.description}`;
      throw new ArgumentError(describeProblem({ operation, argument, expected, got }));
    }
  }
}

/**
 * Throws unless `value` is a number for which `holds`.
 * @throws ArgumentError
 */
export function expectNumber(operation: string, argument: string, value: unknown, holds: (value: number) => boolean, expected: string): void {
  if (typeof value === 'number' && holds(value)) return;
  throw new ArgumentError(describeProblem({ operation, argument, expected, got: describeValue(value) }));
}
