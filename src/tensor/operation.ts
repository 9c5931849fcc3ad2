import { ArgumentError, describeValue, DisposedError, DTypeError } from '../util/errors.js';
import type { Backend } from './backend.js';
import { packedDTypes, type DType } from './dtype.js';
import { formatShape } from './shape.js';
import { scope } from './scope.js';
import { isTensor, type Tensor } from './tensor.js';

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

/** What the names of operands' dtypes say, worked out once. */
const kinds = new Map<string, { readonly dtypes: readonly DType[]; readonly optional: boolean }>(
  Object.entries(accepted).flatMap(([name, dtypes]) => [
    [name, { dtypes, optional: false }],
    [`${name}?`, { dtypes, optional: true }],
  ]),
);

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

/** The checks of `operation`. */
export function expectTensors(operation: string, operands: Readonly<Record<string, Operand>>): void {
  let backend: Backend | undefined;
  let first = '';
  for (const argument in operands) {
    const [given, kind] = operands[argument] as Operand;
    const found = checkedTensor(operation, argument, given, kind);
    if (found === null) continue;
    if (backend === undefined) {
      ({ backend } = found);
      first = argument;
    } else if (found.backend !== backend) {
      throw otherBackend(operation, argument, found, `on ${backend.description}, as ${first} is`);
    }
  }
}

/**
 * The checks of `operation` for tensors of a list, which errors call `name[0]`, `name[1]`, …
 * @param on the backend they should be of; default: the first one's
 */
export function expectTensorList(operation: string, name: string, tensors: readonly Tensor[], kind: Accepted, on?: Backend): void {
  let backend = on;
  for (let i = 0; i < tensors.length; i++) {
    const found = checkedTensor(operation, [name, i], tensors[i], kind);
    if (found === null) continue;
    backend ??= found.backend;
    if (found.backend !== backend) throw otherBackend(operation, `${name}[${i}]`, found, `on ${backend.description}`);
  }
}

function otherBackend(operation: string, argument: string, { backend: { description } }: Tensor, expected: string): ArgumentError {
  return new ArgumentError({ operation, argument, expected, got: `on another backend, ${description}` });
}

function checkedTensor(operation: string, at: string | readonly [list: string, i: number], given: Tensor | null | undefined, kind: Operand[1]): Tensor | null {
  const { dtypes, optional } = kinds.get(kind) as { dtypes: readonly DType[]; optional: boolean };
  if (optional && (given === null || given === undefined)) return null;
  if (isTensor(given) && !given.disposed && dtypes.includes(given.dtype)) return given;
  const argument = typeof at === 'string' ? at : `${at[0]}[${at[1]}]`;
  if (!isTensor(given)) {
    const expected = `a tensor${optional ? ' or null' : ''}`;
    throw new ArgumentError({ operation, argument, expected, got: describeValue(given) });
  }
  if (given.disposed) {
    throw new DisposedError({
      operation,
      argument,
      expected: 'a tensor that lives',
      got: `a tensor ${formatShape(given.shape)} that was freed`,
      hint: 'return it from its scope(), or keep() it',
    });
  }
  const hint = dtypes.includes('i32') ? { hint: "integers are made with tensor(backend, values, shape, 'i32')" } : {};
  throw new DTypeError({ operation, argument, expected: dtypes.join(' or '), got: given.dtype, ...hint });
}

/**
 * Throws unless `value` is a number for which `holds`.
 * @throws ArgumentError
 */
export function expectNumber(operation: string, argument: string, value: unknown, holds: (value: number) => boolean, expected: string): void {
  if (typeof value === 'number' && holds(value)) return;
  throw new ArgumentError({ operation, argument, expected, got: describeValue(value) });
}
