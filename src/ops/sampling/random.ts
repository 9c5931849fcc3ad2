/** The random numbers of sampling: a hash of where they are used, the same on every backend. 32-bit words throughout. */

/** Spreads the bits of a word over all of it. Source: Chris Wellons, "Prospecting for Hash Functions" (2018), `lowbias32`. */
function mix(word: number): number {
  let x = word >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** What is added to words before they are mixed, for 0 mixes to 0: 2³² over the golden ratio. */
const offset = 0x9e3779b9;

/** The word of a row of a step of a sequence of draws. */
export function rowKey(seed: number, step: number, row: number): number {
  let key = mix(seed + offset);
  key = mix(key + step + offset);
  return mix(key + row + offset);
}

/**
 * −ln(−ln u) of a u in (0, 1) that follows from `key` and the element: a number with Gumbel's distribution.
 *
 * With v = 1 − u, of 23 bits and never 0 or 1, −ln u is ln(1 + v / (1 − v)), which loses no digits where u is near 1 and the
 * result is large.
 */
export function gumbel(key: number, element: number): number {
  const bits = mix(mix(key + element) ^ mix(key ^ offset));
  const v = ((bits >>> 9) + 0.5) / 2 ** 23;
  return -Math.log(Math.log1p(v / (1 - v)));
}
