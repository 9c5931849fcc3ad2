import { expectTensorList, isRecording, record, scope, withRecorder, type DType, type Tensor } from '../tensor/index.js';
import { Tape } from './tape.js';

/**
 * Runs a part of a model without keeping what its gradient needs: the backward pass runs the part again. Memory for time
 * (Chen et al. 2016); the numbers are the same.
 * @param inputs everything `body` reads that may want a gradient: activations and parameters
 * @param body a deterministic function of `inputs`
 * @returns what `body` returns
 */
export function recompute<D extends DType>(inputs: readonly Tensor[], body: (inputs: readonly Tensor[]) => readonly Tensor<D>[]): Tensor<D>[] {
  expectTensorList('recompute', 'inputs', inputs, 'any');
  const outputs = scope(() => withRecorder(null, () => [...body(inputs)]));
  if (!isRecording()) return outputs;
  record({
    operation: 'recompute',
    inputs,
    outputs,
    saved: Object.fromEntries(inputs.map((input, i) => [String(i), input])),
    backward({ cotangents, saved, needed }) {
      const again = inputs.map((_, i) => saved[String(i)] as Tensor);
      const wanted = again.filter((_, i) => needed[i]);
      const tape = new Tape(wanted);
      try {
        const made = tape.run(() => body(again));
        const used = made.map((output, i) => ({ output, cotangent: cotangents[i] })).filter(({ cotangent }) => cotangent);
        const gradients = tape.backward(
          used.map(({ output }) => output),
          used.map(({ cotangent }) => cotangent as Tensor),
          wanted,
        );
        let next = 0;
        return needed.map((want) => (want ? (gradients[next++] ?? null) : null));
      } finally {
        tape.dispose();
      }
    },
  });
  return outputs;
}
