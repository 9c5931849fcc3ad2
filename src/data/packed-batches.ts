import { ArgumentError } from '../util/errors.js';
import { Random } from '../util/random.js';
import type { DocumentSource, TokenDocument } from './documents.js';
import { checkBatchShape, ignoredTarget } from './tokens.js';
import type { Batch, BatchShape } from './tokens.js';

/** Where a packed sampler is: with the same documents and the same shape, it is all that the next batches depend on. */
export interface PackedSamplerState {
  readonly seed: number;
  /** Orders through which all documents went. */
  readonly epoch: number;
  /** Documents taken from this epoch's order. */
  readonly position: number;
  /** For each row, the document it is in and the token it goes on from; null before the first. */
  readonly slots: readonly (readonly [document: number, at: number] | null)[];
}

interface Slot {
  index: number;
  at: number;
  /** Opened when it is read: a state can be restored without a file. */
  document?: TokenDocument;
}

/** A batch whose rows hold documents one after the other. */
export interface PackedBatch extends Batch {
  starts: Int32Array;
}

/**
 * Fills rows with documents, one after the other without padding: B streams of documents, of which each batch is the next L
 * tokens. Row b of a batch goes on where row b of the batch before it ended, in the midst of a document where it is longer
 * than what was left of the row. The next document goes to the row that first runs out of its own (the rows in turn), so
 * that no row waits for another however unequal the documents are.
 *
 * Source: packing without padding, PackMamba (Xu et al. 2024); going on with a document in the next row is ours, and needs the
 * model's state carried from batch to batch.
 */
class PackedRows {
  slots: (Slot | null)[];
  readonly #source: DocumentSource;
  readonly #shape: BatchShape;
  readonly #take: () => number | null;

  /** @param take the next document's index, or null when there is none */
  constructor(source: DocumentSource, shape: BatchShape, take: () => number | null) {
    this.#source = source;
    this.#shape = shape;
    this.#take = take;
    this.slots = new Array<Slot | null>(shape.batchSize).fill(null);
  }

  /** The next batch; what no document fills any more is input 0 without a target. Null when nothing is left at all. */
  async next(): Promise<PackedBatch | null> {
    const { batchSize, length } = this.#shape;
    const size = batchSize * length;
    const batch = { inputs: new Int32Array(size), targets: new Int32Array(size).fill(ignoredTarget), starts: new Int32Array(size) };
    let filled = 0;
    for (let row = 0; row < batchSize; row++) filled += await this.#fill(batch, row);
    return filled === 0 ? null : batch;
  }

  async #fill({ inputs, targets, starts }: PackedBatch, row: number): Promise<number> {
    const { length } = this.#shape;
    const begin = row * length;
    let done = 0;
    while (done < length) {
      const current = await this.#current(row);
      if (current === null) break;
      const { slot, document } = current;
      const count = Math.min(length - done, document.length - slot.at);
      // One token more than the row holds: the last position's target.
      const tokens = await document.read(slot.at, Math.min(document.length, slot.at + count + 1));
      const at = begin + done;
      if (slot.at === 0) starts[at] = 1;
      for (let i = 0; i < count; i++) inputs[at + i] = tokens[i] as number;
      for (let i = 0; i + 1 < tokens.length && i < count; i++) targets[at + i] = tokens[i + 1] as number;
      slot.at += count;
      done += count;
    }
    return done;
  }

  /** The document that row `row` is in, with tokens left. */
  async #current(row: number): Promise<{ slot: Slot; document: TokenDocument } | null> {
    let slot = this.slots[row] ?? null;
    for (let empty = 0; ; ) {
      if (slot !== null) {
        const document = (slot.document ??= await this.#source.open(slot.index));
        if (slot.at < document.length) return { slot, document };
        if (document.length === 0 && ++empty > 2 * this.#source.count) {
          const [argument, got] = ['the documents', 'empty, all of them'];
          throw new ArgumentError({ operation: 'PackedSampler', argument, expected: 'tokens', got });
        }
      }
      const index = this.#take();
      slot = index === null ? null : { index, at: 0 };
      this.slots[row] = slot;
      if (slot === null) return null;
    }
  }
}

/**
 * Endless packed training batches: each epoch takes all documents once, in an order drawn anew. Rows are full always; an
 * epoch ends, and the next begins, wherever in a row that may be.
 */
export class PackedSampler {
  readonly #source: DocumentSource;
  readonly #rows: PackedRows;
  #seed: number;
  #epoch = 0;
  #position = 0;
  #order: Uint32Array;

  /** @throws ArgumentError where an option is out of its range, or there is no document */
  constructor(source: DocumentSource, { seed, batchSize, length }: BatchShape & { seed: number }) {
    checkBatchShape('PackedSampler', { batchSize, length });
    checkInteger('the number of documents', source.count, 1, 2 ** 32);
    this.#source = source;
    this.#seed = checkInteger('seed', seed, 0, 2 ** 32);
    this.#order = this.#draw(seed, 0);
    this.#rows = new PackedRows(source, { batchSize, length }, () => this.#take());
  }

  /** The next batch, in arrays of its own. @throws CheckpointError where a document is damaged */
  async next(): Promise<PackedBatch> {
    return (await this.#rows.next()) as PackedBatch;
  }

  /** Where the sampler is, for `restore`. */
  state(): PackedSamplerState {
    const slots = this.#rows.slots.map((slot): [number, number] | null => slot && [slot.index, slot.at]);
    return { seed: this.#seed, epoch: this.#epoch, position: this.#position, slots };
  }

  /**
   * Goes on where the sampler that gave `state` was; it must have had the same documents and the same shape.
   * @throws ArgumentError where the state cannot be one of such a sampler; this one then stays as it was
   */
  restore({ seed, epoch, position, slots = [] }: Omit<PackedSamplerState, 'slots'> & Partial<PackedSamplerState>): void {
    const { count } = this.#source;
    checkInteger('state.seed', seed, 0, 2 ** 32);
    checkInteger('state.epoch', epoch, 0, 2 ** 32);
    checkInteger('state.position', position, 0, count + 1);
    checkInteger('state.slots.length', slots.length, this.#rows.slots.length, this.#rows.slots.length + 1);
    for (const slot of slots) {
      if (slot === null) continue;
      checkInteger('state.slots: a document', slot[0], 0, count);
      checkInteger('state.slots: a token', slot[1], 0, Number.MAX_SAFE_INTEGER);
    }
    [this.#seed, this.#epoch, this.#position] = [seed, epoch, position];
    this.#order = this.#draw(seed, epoch);
    this.#rows.slots = slots.map((slot) => slot && { index: slot[0], at: slot[1] });
  }

  #take(): number {
    if (this.#position === this.#source.count) {
      this.#epoch++;
      this.#position = 0;
      this.#order = this.#draw(this.#seed, this.#epoch);
    }
    return this.#order[this.#position++] as number;
  }

  #draw(seed: number, epoch: number): Uint32Array {
    return new Random(seed, epoch).shuffle(Uint32Array.from({ length: this.#source.count }, (_, i) => i));
  }
}

/**
 * Packed batches that go through all documents once, in order: every token but the first of each document is a target
 * exactly once. When documents run out, rows end in inputs 0 without a target.
 * @throws ArgumentError where a size is not a positive integer
 */
export async function* packedPass(source: DocumentSource, shape: BatchShape): AsyncGenerator<PackedBatch> {
  checkBatchShape('packedPass', shape);
  let taken = 0;
  const rows = new PackedRows(source, shape, () => (taken < source.count ? taken++ : null));
  for (let batch = await rows.next(); batch !== null; batch = await rows.next()) yield batch;
}

function checkInteger(argument: string, value: number, least: number, bound: number): number {
  if (Number.isInteger(value) && value >= least && value < bound) return value;
  const expected = `an integer in [${least}, ${bound})`;
  const hint = 'is the state of other documents, or another batch size?';
  const more = argument.startsWith('state') ? { hint } : {};
  throw new ArgumentError({ operation: 'PackedSampler', argument, expected, got: String(value), ...more });
}
