/** Finding weights that are no numbers. */
import { globalNorm } from '../ops/adamw/adamw.js';
import { cast, unpackWeight } from '../ops/index.js';
import { isPacked, scope, withoutScope, type Shape, type Tensor } from '../tensor/index.js';
import { ArgumentError } from '../util/errors.js';
import type { Parameter } from './parameters.js';

/**
 * Looks for values that are NaN or of magnitude `limit` or more. The norm of all tells that there is none, on the device; only where
 * it does not are they read.
 * @returns how many there are and which comes first, in words; nothing where there are none
 */
export async function findBeyond(tensor: Tensor, limit = Infinity): Promise<string | undefined> {
  const norm = normOf(tensor);
  try {
    return await beyond(tensor, await norm.item(), limit);
  } finally {
    norm.dispose();
  }
}

/**
 * Throws unless all parameters are finite.
 * @throws ArgumentError naming the first that is not, how many of its values are not, and where the first of them is
 */
export async function expectFiniteWeights(operation: string, parameters: readonly Parameter[]): Promise<void> {
  const norms = parameters.map(({ tensor }) => normOf(tensor));
  try {
    for (const [i, { key, tensor }] of parameters.entries()) {
      const problem = await beyond(tensor, (await norms[i]?.item()) ?? NaN, Infinity);
      if (problem !== undefined) throw new ArgumentError(`${operation}: the weight '${key}' holds ${problem}`);
    }
  } finally {
    for (const norm of norms) norm.dispose();
  }
}

const normOf = (tensor: Tensor): Tensor => withoutScope(() => scope(() => globalNorm(asFloat32(tensor))));

function asFloat32(tensor: Tensor): Tensor {
  if (isPacked(tensor.dtype)) return unpackWeight(tensor);
  return tensor.dtype === 'f16' ? cast(tensor, 'f32') : tensor;
}

async function beyond(tensor: Tensor, norm: number, limit: number): Promise<string | undefined> {
  if (norm < limit) return undefined;
  const wide = withoutScope(() => scope(() => asFloat32(tensor)));
  try {
    return describeBeyond(await wide.data(), tensor.shape, limit);
  } finally {
    if (wide !== tensor) wide.dispose();
  }
}

/** How many values are not finite, or if all are, of magnitude `limit` or more, and which comes first; nothing where there are none. */
export function describeBeyond(values: ArrayLike<number>, shape: Shape, limit: number): string | undefined {
  let [count, first] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(values[i] as number) < limit) continue;
    if (count++ === 0) first = i;
  }
  if (count === 0) return undefined;
  const infinite = limit === Infinity ? undefined : describeBeyond(values, shape, Infinity);
  if (infinite !== undefined) return infinite;
  const [value, are] = count === 1 ? ['value', 'is'] : ['values', 'are'];
  const what = limit === Infinity ? `that ${are} not finite` : `of ${limit} or more`;
  // The last axis runs fastest.
  const place: number[] = [];
  let rest = first;
  for (const extent of [...shape].reverse()) {
    place.unshift(rest % extent);
    rest = Math.floor(rest / extent);
  }
  return `${count} ${value} ${what} (of ${values.length}), the first ${String(values[first])} at [${place.join(',')}]`;
}
