import { ArgumentError, describeValue } from '../util/errors.js';
import { isPacked, type DType } from './dtype.js';

/**
 * Throws unless `values` are numbers that a buffer can hold: of any kind for floats, 32-bit integers, or bytes. Conversions
 * would turn the others into wrong ones without a word.
 * @param request.expected how many there should be of what, for the message
 * @throws ArgumentError
 */
export function checkValues(
  operation: string,
  values: unknown,
  { dtype, size, expected }: { dtype: DType; size: number; expected: string },
): asserts values is ArrayLike<number> {
  const fail = (argument: string, wanted: string, got: string): never => {
    throw new ArgumentError({ operation, argument, expected: wanted, got });
  };
  const length: unknown = typeof values === 'object' && values !== null && 'length' in values ? values.length : undefined;
  if (typeof length !== 'number' || values instanceof BigInt64Array || values instanceof BigUint64Array) {
    fail('values', expected, describeValue(values));
  }
  if (length !== size) fail('values', expected, `${String(length)} ${isPacked(dtype) ? 'bytes' : 'numbers'}`);
  const kind = dtype === 'i32' ? integers : isPacked(dtype) ? bytes : numbers;
  if (kind.holdsAll(values)) return;
  const list = values as ArrayLike<unknown>;
  for (let i = 0; i < size; i++) {
    if (!kind.holds(list[i])) fail(`values[${i}]`, kind.name, describeValue(list[i]));
  }
}

/** What the elements of a buffer are. */
interface Kind {
  readonly name: string;
  /** Arrays of which no element needs a look. */
  holdsAll(values: unknown): boolean;
  holds(value: unknown): boolean;
}

const numbers: Kind = {
  name: 'a number',
  holdsAll: (values) => ArrayBuffer.isView(values),
  holds: (value) => typeof value === 'number',
};

const integers: Kind = {
  name: 'an integer in [−2³¹, 2³¹)',
  holdsAll: (values) => [Int32Array, Uint8Array, Uint16Array, Int8Array, Int16Array].some((type) => values instanceof type),
  holds: (value) => typeof value === 'number' && (value | 0) === value,
};

const bytes: Kind = {
  name: 'an integer in [0, 256)',
  holdsAll: (values) => values instanceof Uint8Array,
  holds: (value) => typeof value === 'number' && (value & 255) === value,
};
