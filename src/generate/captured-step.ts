import type { MambaLM, State } from '../models/index.js';
import { copyInto } from '../ops/index.js';
import type { Program, Tensor } from '../tensor/index.js';
import { DisposedError } from '../util/errors.js';

/** A step of a model on a state, captured, and what was worked out from the weights for it: what decoders replay. */
export class CapturedStep {
  readonly #model: MambaLM;
  readonly #state: State;
  readonly #batch: number;
  readonly #transitions: readonly Tensor[];
  readonly #program: Program;
  /** The model's when the transitions were worked out. */
  #version: number;
  #disposed = false;

  /**
   * @param step launches the step
   * @throws ArgumentError when the state is another model's
   */
  constructor(model: MambaLM, state: State, step: (transitions: readonly Tensor[]) => void) {
    model.expectLive('Decoder');
    state.expectOf('Decoder', model, state.batch);
    this.#model = model;
    this.#state = state;
    this.#batch = state.batch;
    this.#version = model.version;
    this.#transitions = model.transitions();
    try {
      this.#program = model.backend.capture(() => {
        step(this.#transitions);
      });
    } catch (error) {
      this.#freeTransitions();
      throw error;
    }
  }

  get launches(): number {
    return this.#program.launches;
  }

  /** @throws DisposedError when the decoder, the model or the state was disposed */
  expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`${operation}: the decoder was disposed`);
    this.#model.expectLive(operation);
    this.#state.expectOf(operation, this.#model, this.#batch);
  }

  /**
   * Appends `count` steps to the stream.
   * @throws DisposedError see `expectLive`; when weights are no longer where they were
   */
  replay(operation: string, count = 1): void {
    this.expectLive(operation);
    this.#refresh();
    for (let i = 0; i < count; i++) {
      this.#program.replay();
      this.#state.position++;
    }
  }

  dispose(): void {
    this.#disposed = true;
    this.#program.dispose();
    this.#freeTransitions();
  }

  /** The weights may have been trained since. */
  #refresh(): void {
    const { version } = this.#model;
    if (version === this.#version) return;
    const fresh = this.#model.transitions();
    try {
      fresh.forEach((transition, i) => {
        copyInto(transition, this.#transitions[i] as Tensor);
      });
    } finally {
      for (const transition of fresh) transition.dispose();
    }
    this.#version = version;
  }

  #freeTransitions(): void {
    for (const transition of this.#transitions) transition.dispose();
  }
}
