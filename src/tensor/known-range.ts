import { ArgumentError } from '../util/errors.js';
import type { DeviceBuffer } from './backend.js';
import type { Tensor } from './tensor.js';

interface Range {
  readonly least: number;
  readonly greatest: number;
}

/**
 * The least and greatest number of buffers of integers that the host wrote as a whole; null for one that a kernel writes, perhaps
 * again at every replay of a program, so that nothing is known of it from then on.
 */
const ranges = new WeakMap<DeviceBuffer, Range | null>();

/** Notes the integers that the host writes to a whole buffer; undefined for a part of one. */
export function noteHostValues(buffer: DeviceBuffer, values: ArrayLike<number> | undefined): void {
  if (ranges.get(buffer) === null) return;
  if (values === undefined || values.length === 0) {
    ranges.delete(buffer);
    return;
  }
  let [least, greatest] = [Infinity, -Infinity];
  // By index: an iterator over a plain array takes several times as long.
  for (let i = 0, { length } = values; i < length; i++) {
    const value = values[i] as number;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  ranges.set(buffer, { least, greatest });
}

/** Notes that a kernel writes to the buffer. */
export function noteKernelWrite(buffer: DeviceBuffer): void {
  ranges.set(buffer, null);
}

/**
 * Throws where the host is known to have written an integer outside of [least, limit) to `tensor`, without waiting for the
 * device. What kernels wrote, and parts of larger tensors, are not known: kernels must be able to do with any integer.
 * @param symbols the interval in letters, as `[0, V)`
 * @throws ArgumentError
 */
export function expectIntegersIn(
  operation: string,
  argument: string,
  tensor: Tensor,
  { least, limit, symbols, hint }: { least: number; limit: number; symbols: string; hint?: string },
): void {
  const { buffer } = tensor.view;
  const range = ranges.get(buffer);
  if (!range || tensor.size !== buffer.size) return;
  const outside = range.least < least ? range.least : range.greatest >= limit ? range.greatest : undefined;
  if (outside === undefined) return;
  throw new ArgumentError({
    operation,
    argument: `an element of ${argument}`,
    expected: `an integer in ${symbols} = [${least}, ${limit})`,
    got: String(outside),
    hint,
  });
}
