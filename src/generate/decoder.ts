import type { MambaLM, State } from '../models/index.js';
import { tensor, withoutScope, type Program, type Tensor } from '../tensor/index.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, describeProblem } from '../util/errors.js';

/**
 * Reads a prompt into a state, a chunk at a time: memory does not grow with the prompt.
 * @param ids token ids of one sequence, at least one
 * @param state for one sequence; afterwards the state after the last id
 * @param options.chunkLength positions a pass, default 512
 * @returns logits [V] after the last id
 * @throws ArgumentError when there is no id, or one is outside of the vocabulary
 */
export async function prefill(
  model: MambaLM,
  ids: ArrayLike<number>,
  state: State,
  options: { chunkLength?: number; signal?: AbortSignalLike | undefined } = {},
): Promise<Float32Array> {
  const { chunkLength = 512, signal } = options;
  if (ids.length === 0) {
    throw new ArgumentError(describeProblem({ operation: 'prefill', argument: 'ids', expected: 'at least one id', got: 'empty' }));
  }
  model.checkIds('prefill', ids);
  const all = Int32Array.from(ids);
  const transitions = model.transitions();
  let logits: Tensor | undefined;
  try {
    for (let start = 0; start < all.length; start += chunkLength) {
      signal?.throwIfAborted();
      logits?.dispose();
      const chunk = all.subarray(start, start + chunkLength);
      logits = withoutScope(() => {
        const input = tensor(model.backend, chunk, [1, chunk.length], 'i32');
        const last = model.forwardLast(input, { state, transitions });
        input.dispose();
        return last;
      });
      // One chunk in flight: an abort takes effect within a chunk, and the queue stays short.
      await model.backend.synchronize();
    }
    return Float32Array.from((await logits?.data()) ?? []);
  } finally {
    for (const transition of transitions) transition.dispose();
    logits?.dispose();
  }
}

/** Decodes one token at a time for the sequences of a state, with the launches of a step recorded once and replayed. */
export class Decoder implements Disposable {
  readonly #model: MambaLM;
  readonly #state: State;
  readonly #ids: Tensor;
  readonly #transitions: readonly Tensor[];
  readonly #program: Program;
  readonly #logits: Tensor;
  #values: Float32Array | undefined;

  /** @param state updated by every step; must outlive the decoder */
  constructor(model: MambaLM, state: State) {
    this.#model = model;
    this.#state = state;
    this.#ids = withoutScope(() => tensor(model.backend, new Int32Array(state.batch), [state.batch], 'i32'));
    this.#transitions = model.transitions();
    let logits: Tensor | undefined;
    this.#program = model.backend.capture(() => {
      logits = withoutScope(() => model.step(this.#ids, state, this.#transitions));
    });
    this.#logits = logits as unknown as Tensor;
  }

  /** Kernel launches a step takes. */
  get launches(): number {
    return this.#program.launches;
  }

  /**
   * Feeds one token to each sequence.
   * @param ids one for each sequence of the state
   * @returns logits [B·V] of the next tokens, until the next step overwrites them
   * @throws ArgumentError when an id is outside of the vocabulary
   */
  async step(ids: ArrayLike<number>): Promise<Float32Array> {
    this.#model.checkIds('step', ids);
    this.#ids.write(ids);
    this.#program.replay();
    this.#state.position++;
    const logits = await this.#logits.data(this.#values);
    this.#values = logits instanceof Float32Array ? logits : undefined;
    return this.#values ?? Float32Array.from(logits);
  }

  dispose(): void {
    this.#program.dispose();
    this.#ids.dispose();
    this.#logits.dispose();
    for (const transition of this.#transitions) transition.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }
}
