import type { LanguageModel, ReadOptions, State } from '../models/index.js';
import type { StateUse } from '../models/state.js';
import { scope, tensor, withoutScope, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { CapturedStep } from './captured-step.js';

/**
 * Reads a prompt into a state, a chunk at a time: memory does not grow with the prompt.
 * @param ids token ids of one sequence, at least one
 * @param state for one sequence; afterwards the state after the last id
 * @param options.chunkLength positions a pass, default 512
 * @returns logits [V] after the last id
 * @throws ArgumentError when there is no id, or one is outside of the vocabulary; when the state is another model's, or in use
 * @throws DisposedError when model, state or backend are disposed, meanwhile too
 */
export async function prefill(model: LanguageModel, ids: ArrayLike<number>, state: State, options: ReadOptions = {}): Promise<Float32Array> {
  state.expectOf('prefill', model, 1);
  const use = state.take('prefill', 'a prefill');
  try {
    return await readPrompt(model, ids, state, options);
  } finally {
    use.end();
  }
}

/** `prefill` for one that has taken the state. */
export async function readPrompt(model: LanguageModel, ids: ArrayLike<number>, state: State, options: ReadOptions): Promise<Float32Array> {
  const logits = await model.read(ids, state, options);
  try {
    return Float32Array.from(await logits.data());
  } finally {
    logits.dispose();
  }
}

/** Decodes one token at a time for the sequences of a state, with the launches of a step recorded once and replayed. */
export class Decoder implements Disposable {
  readonly #model: LanguageModel;
  readonly #state: State;
  readonly #use: StateUse | null;
  readonly #ids: Tensor;
  readonly #step: CapturedStep;
  /** Of the step as it was captured last. */
  readonly #logits: { of: Tensor };
  #values: Float32Array | undefined;

  /**
   * @param state updated by every step; must outlive the decoder
   * @param use of one that has taken the state and decodes
   * @throws ArgumentError when the state is another model's
   */
  constructor(model: LanguageModel, state: State, use: StateUse | null = null) {
    this.#model = model;
    this.#state = state;
    this.#use = use;
    const made = withoutScope(() =>
      scope(() => {
        const ids = tensor(model.backend, new Int32Array(state.batch), [state.batch], 'i32');
        const logits = { of: undefined as Tensor | undefined };
        const step = new CapturedStep(model, state, (prepared) => {
          logits.of?.dispose();
          logits.of = withoutScope(() => scope(() => model.step(ids, state, prepared)));
        });
        return { ids, step, logits };
      }),
    );
    this.#ids = made.ids;
    this.#step = made.step;
    this.#logits = made.logits as { of: Tensor };
  }

  /** Kernel launches a step takes. */
  get launches(): number {
    return this.#step.launches;
  }

  /**
   * Feeds one token to each sequence.
   * @param ids one for each sequence of the state
   * @returns logits [B·V] of the next tokens, until the next step overwrites them
   * @throws ArgumentError when an id is outside of the vocabulary, or a generation is using the state
   * @throws DisposedError when the decoder, its state, model or backend are disposed, or the model's weights have moved
   */
  async step(ids: ArrayLike<number>): Promise<Float32Array> {
    this.#step.expectLive('step');
    this.#state.expectFree('step', this.#use);
    this.#model.checkIds('step', ids);
    this.#ids.write(ids);
    this.#step.replay('step');
    // A step that is begun before this one's logits are read has an array of its own.
    const into = this.#values;
    this.#values = undefined;
    const logits = await this.#logits.of.data(into);
    this.#values = logits instanceof Float32Array ? logits : undefined;
    return this.#values ?? Float32Array.from(logits);
  }

  dispose(): void {
    this.#step.dispose();
    this.#ids.dispose();
    this.#logits.of.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }
}
