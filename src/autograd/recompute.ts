import { expectTensorList, isRecording, record, recordingWithin, scope, withoutScope, type DType, type GradientSum, type RecordedOperation, type Recorder, type Tensor } from '../tensor/index.js';
import { Tape } from './tape.js';

/** The name that operations of this kind are recorded under. */
export const recomputation = 'recompute';

/**
 * Runs a part of a model without keeping what its gradient needs: the backward pass runs the part again. Memory for time
 * (Chen et al. 2016); the numbers are the same.
 * @param inputs the activations that `body` reads, and other tensors that may be freed before the backward pass; of any dtype
 * @param body a deterministic function of `inputs` and of tensors that live until the backward pass, such as parameters, which get
 *   their gradients without being named. `again` tells whether it is run for the gradients: what it does besides is then not to be done anew
 * @returns what `body` returns
 */
export function recompute<D extends DType>(
  inputs: readonly Tensor[],
  body: (inputs: readonly Tensor[], again: boolean) => readonly Tensor<D>[],
): Tensor<D>[] {
  expectTensorList(recomputation, 'inputs', inputs, 'any');
  if (!isRecording()) return scope(() => [...body(inputs, false)]);
  return scope(() => {
    const within = recordingWithin();
    const reads = new Reads(inputs);
    try {
      const outputs = scope(() => within(reads, () => [...body(inputs, false)]));
      const all = [...inputs, ...reads.lasting()];
      // What `body` passes on as it was given has its gradient already.
      const own = outputs.filter(({ id }) => !all.some((given) => given.id === id));
      record({
        operation: recomputation,
        inputs: all,
        outputs: own,
        saved: Object.fromEntries(all.map((tensor, i) => [String(i), tensor])),
        backward({ cotangents, saved, needed, sums }) {
          const given = all.map((_, i) => saved[String(i)] as Tensor);
          const wanted = given.filter((_, i) => needed[i]);
          const into = new Map(given.flatMap((tensor, i): [Tensor, GradientSum][] => (sums[i] ? [[tensor, sums[i]]] : [])));
          const tape = new Tape(wanted);
          try {
            const made = within(tape, () => body(given.slice(0, inputs.length), true));
            const used = made
              .filter((_, i) => own.includes(outputs[i] as Tensor<D>))
              .map((output, i) => ({ output, cotangent: cotangents[i] }))
              .filter(({ cotangent }) => cotangent);
            const gradients = tape.backward(
              used.map(({ output }) => output),
              used.map(({ cotangent }) => cotangent as Tensor),
              wanted,
              { into },
            );
            let next = 0;
            return needed.map((want) => (want ? (gradients[next++] ?? null) : null));
          } finally {
            tape.dispose();
          }
        },
      });
      return outputs;
    } finally {
      reads.dispose();
    }
  });
}

/** Notes the tensors that operations read and none of them made. */
class Reads implements Recorder {
  readonly #known: Set<number>;
  readonly #found: Tensor[] = [];

  /** @param given that need no noting */
  constructor(given: readonly Tensor[]) {
    this.#known = new Set(given.map(({ id }) => id));
  }

  record<S extends Record<string, Tensor | null>>({ inputs, outputs }: RecordedOperation<S>): void {
    for (const input of inputs) {
      if (!input || this.#known.has(input.id)) continue;
      this.#known.add(input.id);
      this.#found.push(withoutScope(() => input.retain()));
    }
    for (const { id } of outputs) this.#known.add(id);
  }

  /** The tensors that somebody else still has. What was made on the way is freed by now. */
  lasting(): Tensor[] {
    return this.#found.filter(({ exclusive }) => !exclusive);
  }

  dispose(): void {
    for (const tensor of this.#found) tensor.dispose();
  }
}
