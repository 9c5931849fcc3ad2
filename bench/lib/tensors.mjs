// Tensors to run operations on.
import { Random, tensor } from 'elapid';

/** Normal numbers, a prime number of them: large tensors repeat them, which no operation's speed depends on. */
const normal = (() => {
  const random = new Random(1);
  return Float32Array.from({ length: 65521 }, () => random.normal());
})();

const sizeOf = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);

/**
 * A tensor of normal numbers, or what `change` makes of them.
 * @param {import('elapid').Backend} backend
 * @param {readonly number[]} shape
 * @param {(x: number) => number} [change]
 */
export function values(backend, shape, change = (x) => x) {
  const few = normal.map(change);
  const all = new Float32Array(sizeOf(shape));
  for (let at = 0; at < all.length; at += few.length) all.set(few.subarray(0, all.length - at), at);
  return tensor(backend, all, shape);
}

/**
 * Ids below `limit`.
 * @param {import('elapid').Backend} backend
 * @param {readonly number[]} shape
 * @param {number} limit
 */
export function ids(backend, shape, limit) {
  const random = new Random(1);
  return tensor(backend, Int32Array.from({ length: sizeOf(shape) }, () => random.integer(limit)), shape, 'i32');
}
