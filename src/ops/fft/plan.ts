/** How the operations of this folder cut their work. */

/** Features, or rows, that lie side by side in memory that is a kernel's own: the widest vectors of a CPU. */
export const block = 16;

/** Complex numbers of a transform whose blocks fit the memory that every thread of a CPU has: three of them take 3 MiB. */
const mostPointsInScratch = 2 ** 13;

/** Of longer transforms, how many a CPU works on at the same time: each has memory of its own. */
const mostAreas = 32;

/** Transforms that a block has in memory at the same time. */
const transformsOfArea = 3;

const powerOfTwo = (least: number): number => 2 ** Math.ceil(Math.log2(least));

const blocksOf = (count: number): number => Math.ceil(count / block);

/** Areas for `tasks` blocks, and the numbers they take. */
function areasFor(tasks: number, points: number): { areas: number; areaSize: number } {
  const areas = points <= mostPointsInScratch ? 0 : Math.max(1, Math.min(mostAreas, tasks));
  return { areas, areaSize: areas * transformsOfArea * points * 2 * block };
}

export interface ConvSizes {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly features: number;
  readonly taps: number;
  readonly reverseTaps: number;
}

/**
 * A convolution's transforms have `points` complex numbers, twice as many real ones: as many as no tap needs to reach around the end.
 * `spectra` numbers hold the spectra of all filters. The gradients of filters are summed in `spans` parts of the batch; `workSize` is what
 * the forward pass and the backward pass need.
 */
export function convPlan({ batch, length, channels, features, taps, reverseTaps }: ConvSizes) {
  const points = powerOfTwo(Math.max(2, length + Math.max(taps - 1, reverseTaps), taps + reverseTaps)) / 2;
  const blocks = blocksOf(features);
  const spans = Math.max(1, Math.min(batch, Math.ceil(16 / Math.max(1, blocks))));
  const spectra = channels * blocks * block * 2 * points;
  const { areas, areaSize } = areasFor(Math.max(batch, channels) * blocks, points);
  return { points, spans, areas, forwardSize: spectra + areaSize, backwardSize: (1 + spans) * spectra + areaSize };
}

/**
 * A transform of any length: `points` complex numbers are transformed, half as many as there are real ones where their number is even. Where
 * `points` is no power of two, that is a convolution (Bluestein's) by transforms of `size` numbers.
 */
export function transformPlan(points: number, rows: number) {
  const direct = points === powerOfTwo(points);
  const size = direct ? points : powerOfTwo(2 * points - 1);
  const { areas, areaSize } = areasFor(blocksOf(rows), size);
  // Bluestein's filter.
  const filter = direct ? 0 : 2 * size;
  return { direct, points, size, areas, workSize: Math.max(1, filter + areaSize) };
}

/** The same for `length` real numbers. */
export const realPlan = (length: number, rows: number) => transformPlan(length % 2 === 0 ? length / 2 : length, rows);
