import type { Sighting } from '../autograd/index.js';
import type { DivergenceOrigin } from './divergence.js';

/** A name that no parameter has. */
const carriedStateName = 'the carried state';

/**
 * The first tensor of a pass that is not finite.
 * @param keys of the parameters: what else is given and not made is the carried state
 */
export function firstNotFinite(sightings: readonly Sighting[], keys: readonly string[]): DivergenceOrigin | null {
  const first = sightings.find(({ norm }) => !Number.isFinite(norm));
  if (first === undefined) return null;
  const { norm: value, ...where } = first;
  const known = where.made !== 'given' || keys.includes(where.tensor);
  return { ...where, value, tensor: known ? where.tensor : carriedStateName };
}

/** Whether a weight was not finite before the step: no batch can be right then. */
export function isWeight(origin: DivergenceOrigin | null): boolean {
  return origin?.made === 'given' && origin.tensor !== carriedStateName;
}

/**
 * The parameter whose gradient grew most.
 * @param recent norms that the gradients had of late, clipped, by key
 * @param clipping factor by which the gradients of this pass would be clipped
 */
export function grewMost(sightings: readonly Sighting[], recent: ReadonlyMap<string, number>, clipping: number): DivergenceOrigin | null {
  let most: DivergenceOrigin | null = null;
  for (const [key, before] of recent) {
    // The last of several: a weight with two uses has the sum of both then.
    const sighting = sightings.findLast(({ tensor }) => tensor === `gradient of ${key}`);
    if (sighting === undefined || before === 0) continue;
    const { norm, ...where } = sighting;
    const value = (clipping * norm) / before;
    if (most === null || value > most.value) most = { ...where, value };
  }
  return most;
}
