import { ArgumentError } from '../util/errors.js';
import { Random } from '../util/random.js';
import type { BatchSource } from './batch-source.js';
import { checkBatchShape, fillRow } from './tokens.js';
import type { Batch, BatchShape, TokenArray } from './tokens.js';

/** What a batch sampler needs besides the tokens. */
export interface BatchSamplerOptions extends BatchShape {
  /** Seed of the order, an integer in [0, 2³²). */
  seed: number;
}

/** Where a batch sampler is: with the same tokens and the same shape, it is all that the next batches depend on. */
export interface BatchSamplerState {
  seed: number;
  /** Passes through the tokens that are complete. */
  epoch: number;
  /** Batches taken in this epoch. */
  position: number;
}

/**
 * Endless training batches: each epoch cuts the tokens into windows of L + 1 that share their ends (so that each token is
 * a target once), from a start drawn anew for each epoch, and takes them in shuffled order, B at a time.
 *
 * An epoch leaves out the tokens before its start and after its last window (fewer than L each) and the windows that fill
 * no batch (fewer than B); which they are is different in each epoch.
 */
export class BatchSampler implements BatchSource {
  readonly #tokens: TokenArray;
  readonly #shape: BatchShape;
  #seed: number;
  #epoch = 0;
  #position = 0;
  #starts: Uint32Array;

  /** @throws ArgumentError where an option is out of its range, or the tokens are too few for one batch */
  constructor(tokens: TokenArray, { seed, batchSize, length }: BatchSamplerOptions) {
    const operation = 'BatchSampler';
    checkBatchShape(operation, { batchSize, length });
    const least = batchSize * length + 1;
    if (tokens.length < least) {
      const got = `${tokens.length} tokens`;
      const expected = `at least ${least} for a batch: batch size × length + 1 = ${batchSize} × ${length} + 1`;
      const hint = 'a longer text, or a smaller batch size or length.';
      throw new ArgumentError({ operation, argument: 'the training text', expected, got, hint });
    }
    this.#tokens = tokens;
    this.#shape = { batchSize, length };
    this.#seed = checkCount('seed', seed, 2 ** 32);
    this.#starts = planEpoch(tokens.length, this.#shape, this.#seed, 0);
  }

  /** The next batch, in arrays of its own. */
  next(): Batch {
    const { batchSize, length } = this.#shape;
    if (this.#position === this.batchesPerEpoch) {
      this.#epoch++;
      this.#position = 0;
      this.#starts = planEpoch(this.#tokens.length, this.#shape, this.#seed, this.#epoch);
    }
    const first = this.#position * batchSize;
    this.#position++;
    const batch = { inputs: new Int32Array(batchSize * length), targets: new Int32Array(batchSize * length) };
    for (let row = 0; row < batchSize; row++) fillRow(batch, row, length, this.#tokens, this.#starts[first + row] as number);
    return batch;
  }

  /** Batches of the current epoch; the random start makes it one more or less than that of another. */
  get batchesPerEpoch(): number {
    return Math.floor(this.#starts.length / this.#shape.batchSize);
  }

  /** Where the sampler is, for `restore`. */
  state(): BatchSamplerState {
    return { seed: this.#seed, epoch: this.#epoch, position: this.#position };
  }

  /**
   * Goes on where the sampler that gave `state` was; it must have had the same tokens and the same shape.
   * @throws ArgumentError where the state cannot be one of such a sampler; this one then stays as it was
   */
  restore(state: BatchSamplerState): void {
    const seed = checkCount('state.seed', state.seed, 2 ** 32);
    const epoch = checkCount('state.epoch', state.epoch, 2 ** 32);
    const starts = planEpoch(this.#tokens.length, this.#shape, seed, epoch);
    const batches = Math.floor(starts.length / this.#shape.batchSize);
    if (!(Number.isInteger(state.position) && state.position >= 0 && state.position <= batches)) {
      const [argument, got] = ['state.position', String(state.position)];
      const expected = `an integer from 0 to the ${batches} batches of the epoch`;
      const hint = 'the state is of another text, batch size or length.';
      throw new ArgumentError({ operation: 'BatchSampler', argument, expected, got, hint });
    }
    this.#seed = seed;
    this.#epoch = epoch;
    this.#position = state.position;
    this.#starts = starts;
  }
}

/** The starts of an epoch's windows in `tokenCount` tokens, in the order in which they are taken. */
function planEpoch(tokenCount: number, { batchSize, length }: BatchShape, seed: number, epoch: number): Uint32Array {
  const random = new Random(seed, epoch);
  // A phase of L or more would leave out a whole window; and a full batch must remain.
  const phase = random.integer(Math.min(length, tokenCount - batchSize * length));
  const count = Math.floor((tokenCount - 1 - phase) / length);
  return random.shuffle(Uint32Array.from({ length: count }, (_, window) => phase + window * length));
}

function checkCount(argument: string, value: number, bound: number): number {
  if (Number.isInteger(value) && value >= 0 && value < bound) return value;
  const expected = `an integer in [0, ${bound})`;
  throw new ArgumentError({ operation: 'BatchSampler', argument, expected, got: String(value) });
}
