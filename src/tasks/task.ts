import { ignoredTarget, type Batch, type BatchSource } from '../data/index.js';
import { ArgumentError } from '../util/errors.js';
import { Random } from '../util/random.js';

/** A synthetic task: examples without end, each made from random numbers alone. */
export interface Task {
  /** Its name and sizes; two tasks of one description give the same examples. */
  readonly description: string;
  /** V: ids are in [0, V). */
  readonly vocabularySize: number;
  /** L: ids of an example as the model reads it. */
  readonly length: number;
  /**
   * Writes one example.
   * @param inputs [L], to be overwritten
   * @param targets [L], filled with `ignoredTarget`; gets the answers at the positions that are asked
   */
  fill(random: Random, inputs: Int32Array, targets: Int32Array): void;
}

/** Training draws from the streams below this, evaluation from those above: what is evaluated was never trained on. */
export const freshStreams = 2 ** 31;

/** Endless batches of a task. Each is drawn from a stream of its own, so that a position in the data is one number. */
export class TaskBatches implements BatchSource {
  readonly #task: Task;
  readonly #batchSize: number;
  readonly #seed: number;
  readonly #firstStream: number;
  #position = 0;

  /** @param firstStream 0 for training, `freshStreams` for evaluation */
  constructor(task: Task, { batchSize, seed, firstStream = 0 }: { batchSize: number; seed: number; firstStream?: number }) {
    this.#task = task;
    this.#batchSize = batchSize;
    this.#seed = seed;
    this.#firstStream = firstStream;
  }

  next(): Batch {
    const { length } = this.#task;
    const random = new Random(this.#seed, this.#firstStream + this.#position);
    this.#position++;
    const size = this.#batchSize * length;
    const batch = { inputs: new Int32Array(size), targets: new Int32Array(size).fill(ignoredTarget) };
    for (let at = 0; at < size; at += length) {
      this.#task.fill(random, batch.inputs.subarray(at, at + length), batch.targets.subarray(at, at + length));
    }
    return batch;
  }

  /** Batches taken so far. */
  state(): { position: number } {
    return { position: this.#position };
  }

  /** @throws ArgumentError where the position is not an integer in [0, 2³¹) */
  restore({ position }: { position?: unknown }): void {
    this.#position = checkSize('TaskBatches', 'state.position', position, 0, freshStreams - 1);
  }
}

/** @throws ArgumentError in the name of `operation` where a size is not an integer from `least` to `most` */
export function checkSize(operation: string, argument: string, value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  const range = most === Number.MAX_SAFE_INTEGER ? `≥ ${least}` : `from ${least} to ${most}`;
  throw new ArgumentError({ operation, argument, expected: `an integer ${range}`, got: String(value) });
}
