import type { LanguageModel, Prepared, State } from '../models/index.js';
import type { Program } from '../tensor/index.js';
import { ArgumentError, DisposedError } from '../util/errors.js';

/** A step of a model on a state, captured, and what was worked out from the weights for it: what decoders replay. */
export class CapturedStep {
  readonly #model: LanguageModel;
  readonly #state: State;
  readonly #batch: number;
  readonly #prepared: Prepared;
  readonly #capture: () => Program;
  #program: Program;
  /** Of the state, when the step was captured. */
  #generation = 0;
  /** The linear layers, each with what was added to it when the step was captured. */
  readonly #linears: readonly { readonly linear: { readonly added: unknown }; readonly added: unknown }[];
  #disposed = false;

  /**
   * @param step launches the step; again whenever the state's memory has moved
   * @throws ArgumentError when the state is another model's
   */
  constructor(model: LanguageModel, state: State, step: (prepared: Prepared) => void) {
    model.expectLive('Decoder');
    state.expectOf('Decoder', model, state.batch);
    this.#model = model;
    this.#state = state;
    this.#batch = state.batch;
    this.#linears = Array.from(model.linears.values(), (linear) => ({ linear, added: linear.added }));
    this.#prepared = model.prepare();
    this.#capture = () => {
      state.reserve(1);
      this.#generation = state.generation;
      const { position } = state;
      try {
        return model.backend.capture(() => {
          step(this.#prepared);
        });
      } finally {
        // Nothing was run.
        state.position = position;
      }
    };
    try {
      this.#program = this.#capture();
    } catch (error) {
      this.#prepared.dispose();
      throw error;
    }
  }

  get launches(): number {
    return this.#program.launches;
  }

  /**
   * @throws DisposedError when the decoder, the model or the state was disposed
   * @throws ArgumentError when an adapter was attached or taken off since
   */
  expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`${operation}: the decoder was disposed`);
    this.#model.expectLive(operation);
    this.#state.expectOf(operation, this.#model, this.#batch);
    if (this.#linears.every(({ linear, added }) => linear.added === added)) return;
    const [expected, got] = ['linear layers as they were when the decoder was made', 'changed: something was added to one, or taken off'];
    throw new ArgumentError({ operation, argument: 'model', expected, got, hint: 'make a decoder anew; its state may stay' });
  }

  /**
   * Appends `count` steps to the stream.
   * @throws DisposedError see `expectLive`; when weights are no longer where they were
   */
  replay(operation: string, count = 1): void {
    this.expectLive(operation);
    this.#prepared.refresh();
    this.#state.reserve(count);
    if (this.#state.generation !== this.#generation) {
      this.#program.dispose();
      this.#program = this.#capture();
    }
    for (let i = 0; i < count; i++) {
      this.#program.replay();
      this.#state.position++;
    }
  }

  dispose(): void {
    this.#disposed = true;
    this.#program.dispose();
    this.#prepared.dispose();
  }
}
