/**
 * Choosing the next token: the filters work in place on a `Float32Array` of logits and set what they remove to −∞, so that
 * they can follow each other in any order and the draw needs no list of what is left.
 */
import { ArgumentError } from '../util/errors.js';
import { Random } from '../util/random.js';

/**
 * How the next token is chosen. The steps are applied in the order in which they are listed here, which is that of
 * transformers' `generate`: repetition penalty, temperature, top-k, top-p, min-p, then the draw.
 */
export interface SamplingOptions {
  /** Divides the positive logits of tokens that are already there, and multiplies the negative ones; > 0, default 1 (off). */
  repetitionPenalty?: number | undefined;
  /** Divides the logits; ≥ 0, default 1. 0 is greedy: the largest logit, the first of equals, and no step after it. */
  temperature?: number | undefined;
  /** Keeps the k largest logits and what equals the last of them; an integer ≥ 1, default all. */
  topK?: number | undefined;
  /** Keeps the most probable tokens whose probabilities just reach this sum; in (0, 1], default 1 (off). */
  topP?: number | undefined;
  /** Keeps tokens at least this many times as probable as the most probable one; in [0, 1], default 0 (off). */
  minP?: number | undefined;
  /** Seed of the draws, an integer in [0, 2³²); default a different one each time. */
  seed?: number | undefined;
}

/** Memory that the steps need, for a vocabulary of `size` ids; one can serve any number of calls, one after another. */
export class SamplingScratch {
  readonly ids: Int32Array;
  readonly weights: Float64Array;
  readonly stamps: Uint32Array;
  stamp = 0;

  constructor(size: number) {
    this.ids = new Int32Array(size);
    this.weights = new Float64Array(size);
    this.stamps = new Uint32Array(size);
  }
}

/**
 * Chooses tokens as `options` say; equal options and equal logits give equal tokens.
 */
export class Sampler {
  readonly #options: SamplingOptions;
  #random: Random;
  #logits = new Float32Array(0);
  #scratch = new SamplingScratch(0);

  /** @throws ArgumentError where an option is out of its range */
  constructor(options: SamplingOptions = {}) {
    checkSamplingOptions(options);
    this.#options = { ...options };
    this.#random = new Random(options.seed ?? Math.floor(Math.random() * 2 ** 32));
  }

  /**
   * The next token; takes one number from the random generator, and none where temperature is 0.
   * @param logits [V], left as they are
   * @param previousIds the tokens so far, prompt included, for the repetition penalty; each id counts once
   * @throws ArgumentError where a logit is NaN or +∞, or all of them are −∞
   */
  sample(logits: Float32Array, previousIds: ArrayLike<number> = []): number {
    const { repetitionPenalty = 1, temperature = 1, topK, topP = 1, minP = 0 } = this.#options;
    checkLogits(logits);
    if (temperature === 0 && repetitionPenalty === 1) return argmax(logits);
    if (this.#logits.length !== logits.length) {
      this.#logits = new Float32Array(logits.length);
      this.#scratch = new SamplingScratch(logits.length);
    }
    const [work, scratch] = [this.#logits, this.#scratch];
    work.set(logits);
    if (repetitionPenalty !== 1) penaliseRepetition(work, previousIds, repetitionPenalty, scratch);
    if (temperature === 0) return argmax(work);
    if (temperature !== 1) applyTemperature(work, temperature);
    if (topK !== undefined) keepTopK(work, topK, scratch);
    if (topP !== 1) keepTopP(work, topP, scratch);
    if (minP !== 0) keepMinP(work, minP);
    return drawToken(work, this.#random, scratch);
  }

  /** The state of the random generator, for `restore`. */
  state(): [number, number, number, number] {
    return this.#random.state();
  }

  /** Goes on drawing where the sampler that gave `state` was. */
  restore(state: readonly number[]): void {
    this.#random = Random.restore(state);
  }
}

/** Checks every option that is there. @throws ArgumentError naming the first that is out of its range */
export function checkSamplingOptions(options: SamplingOptions): void {
  const check = (name: keyof SamplingOptions, expected: string, inRange: (value: number) => boolean): void => {
    const value = options[name];
    if (value === undefined || (Number.isFinite(value) && inRange(value))) return;
    throw new ArgumentError({ operation: 'Sampler', argument: name, expected, got: String(value) });
  };
  check('repetitionPenalty', 'a number > 0 (1 is off)', (value) => value > 0);
  check('temperature', 'a number ≥ 0 (0 is greedy)', (value) => value >= 0);
  check('topK', 'an integer ≥ 1 (leave it out to keep all)', (value) => Number.isInteger(value) && value >= 1);
  check('topP', 'a number in (0, 1]', (value) => value > 0 && value <= 1);
  check('minP', 'a number in [0, 1]', (value) => value >= 0 && value <= 1);
  check('seed', 'an integer in [0, 2³²)', (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32);
}

/**
 * Makes tokens that are already there less likely: l ← l/θ where l > 0, l·θ otherwise, once for each distinct id.
 *
 * Source: CTRL (Keskar et al. 2019, section 4.1), which divides negative logits too and so makes them likelier; here they
 * are multiplied, as transformers does.
 * @throws ArgumentError where an id is not in [0, V)
 */
export function penaliseRepetition(
  logits: Float32Array,
  previousIds: ArrayLike<number>,
  penalty: number,
  scratch = new SamplingScratch(logits.length),
): void {
  const { stamps } = scratch;
  const stamp = nextStamp(scratch);
  for (let i = 0; i < previousIds.length; i++) {
    const id = previousIds[i] as number;
    if (stamps[id] === stamp) continue;
    const logit = logits[id];
    if (logit === undefined) {
      const expected = `an integer in [0, V) = [0, ${logits.length})`;
      const argument = `previousIds[${i}]`;
      throw new ArgumentError({ operation: 'penaliseRepetition', argument, expected, got: String(id) });
    }
    stamps[id] = stamp;
    logits[id] = logit > 0 ? logit / penalty : logit * penalty;
  }
}

/** l ← (l − max l)/T: T < 1 sharpens the distribution, T > 1 flattens it. */
export function applyTemperature(logits: Float32Array, temperature: number): void {
  // softmax is the same without the maximum; with it, a tiny temperature would give ∞, and ∞ − ∞ later.
  const largest = logits[argmax(logits)] as number;
  for (let id = 0; id < logits.length; id++) logits[id] = ((logits[id] as number) - largest) / temperature;
}

/** Keeps the `k` largest logits and, as transformers does, whatever equals the last of them. */
export function keepTopK(logits: Float32Array, k: number, scratch = new SamplingScratch(logits.length)): void {
  const { ids } = scratch;
  // The k-th largest of some logits is at most the k-th largest of all: a small part first leaves few of the rest.
  const part = listCandidates(logits.subarray(0, 32 * k), ids);
  const bound = part < k ? -Infinity : kthLargest(logits, ids, part, k);
  const count = listCandidates(logits, ids, bound);
  if (count <= k && bound === -Infinity) return;
  const last = kthLargest(logits, ids, count, k);
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) < last) logits[id] = -Infinity;
}

function kthLargest(logits: Float32Array, ids: Int32Array, count: number, k: number): number {
  selectTop(ids, count, logits, undefined, k);
  let last = Infinity;
  for (let i = 0; i < k; i++) last = Math.min(last, logits[ids[i] as number] as number);
  return last;
}

/**
 * Keeps the smallest set of most probable tokens whose probabilities sum to `p` or more; of equal ones the lower ids.
 *
 * Source: nucleus sampling (Holtzman et al. 2020, section 3.1).
 */
export function keepTopP(logits: Float32Array, p: number, scratch = new SamplingScratch(logits.length)): void {
  if (p >= 1) return;
  const { ids, weights } = scratch;
  const count = listCandidates(logits, ids);
  const kept = selectTop(ids, count, logits, weights, p * fillWeights(logits, weights));
  for (let i = kept; i < count; i++) logits[ids[i] as number] = -Infinity;
}

/** Keeps tokens with probability ≥ minP · (the largest probability). Source: min-p sampling (Nguyen et al. 2024). */
export function keepMinP(logits: Float32Array, minP: number): void {
  // A ratio of probabilities is a difference of logits.
  const least = (logits[argmax(logits)] as number) + Math.log(minP);
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) < least) logits[id] = -Infinity;
}

/** Id of the largest logit, the first of equals. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  let largest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit > largest) {
      largest = logit;
      best = id;
    }
  }
  return best;
}

/** An id drawn with probability softmax(logits), by one `random.uniform()` walked through the ids in ascending order. */
export function drawToken(logits: Float32Array, random: Random, scratch = new SamplingScratch(logits.length)): number {
  const { weights } = scratch;
  let rest = random.uniform() * fillWeights(logits, weights);
  let last = 0;
  for (let id = 0; id < logits.length; id++) {
    const weight = weights[id] as number;
    if (weight === 0) continue;
    last = id;
    rest -= weight;
    if (rest < 0) break;
  }
  // Rounding can leave a rest above 0 after the last id; that id is then the one.
  return last;
}

function checkLogits(logits: Float32Array): void {
  let largest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    // False for NaN and +∞ alone.
    if (!(logit < Infinity)) {
      const [argument, expected, got] = [`logits[${id}]`, 'a number or −∞', String(logit)];
      const hint = 'the model computed something impossible: check the weights and the precision.';
      throw new ArgumentError({ operation: 'sample', argument, expected, got, hint });
    }
    if (logit > largest) largest = logit;
  }
  if (largest > -Infinity) return;
  const got = logits.length === 0 ? 'empty' : '−∞ everywhere';
  throw new ArgumentError({ operation: 'sample', argument: 'logits', expected: 'at least one number', got });
}

/** A stamp that no id carries yet. */
function nextStamp(scratch: SamplingScratch): number {
  if (scratch.stamp === 2 ** 32 - 1) {
    scratch.stamps.fill(0);
    scratch.stamp = 0;
  }
  return ++scratch.stamp;
}

/** Writes the ids with a logit above −∞ and not below `bound` into `ids`, ascending; returns how many they are. */
function listCandidates(logits: Float32Array, ids: Int32Array, bound = -Infinity): number {
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit >= bound && logit > -Infinity) ids[count++] = id;
  }
  return count;
}

/** weights ← exp(logits − max); returns their sum. */
function fillWeights(logits: Float32Array, weights: Float64Array): number {
  const largest = logits[argmax(logits)] as number;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    const weight = logit === -Infinity ? 0 : Math.exp(logit - largest);
    weights[id] = weight;
    sum += weight;
  }
  return sum;
}

/**
 * Brings to the front of `ids` the best ones, by descending logit and then ascending id, of which each is kept whose
 * predecessors weigh less than `target` together; returns how many. Weights are indexed by id, and 1 where there are none.
 *
 * Quickselect by weight: only the side of the pivot in which the target lies is looked at again, so V ids cost O(V).
 */
function selectTop(
  ids: Int32Array,
  count: number,
  logits: Float32Array,
  weights: Float64Array | undefined,
  target: number,
): number {
  let from = 0;
  let to = count;
  let before = 0;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const pivot = ids[middle] as number;
    const pivotLogit = logits[pivot] as number;
    ids[middle] = ids[to - 1] as number;
    let split = from;
    let weight = 0;
    for (let i = from; i < to - 1; i++) {
      const id = ids[i] as number;
      const logit = logits[id] as number;
      if (logit > pivotLogit || (logit === pivotLogit && id < pivot)) {
        ids[i] = ids[split] as number;
        ids[split++] = id;
        weight += weights === undefined ? 1 : (weights[id] as number);
      }
    }
    ids[to - 1] = ids[split] as number;
    ids[split] = pivot;
    if (before + weight >= target) {
      to = split;
    } else {
      before += weight + (weights === undefined ? 1 : (weights[pivot] as number));
      from = split + 1;
      if (before >= target) break;
    }
  }
  return from;
}
