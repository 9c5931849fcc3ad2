import type { Batch } from './tokens.js';

/** Endless training batches that can go on from where they were. */
export interface BatchSource<B = Batch> {
  /** The next batch, in arrays of its own. */
  next(): B | Promise<B>;
  /** All that the next batches depend on, fit for JSON. */
  state(): object;
  /**
   * Goes on where the source that gave `state` was.
   * @throws ArgumentError where the state cannot be one of such a source; this one then stays as it was
   */
  restore(state: object): void;
}
