import { recompute } from '../autograd/recompute.js';
import type { Tensor } from '../tensor/index.js';
import type { Block } from './block.js';
import type { Memory, Pass, Stream } from './mixer.js';

/** `block.forward`, of which only what goes into it is kept: the gradients run the block again. */
export function forwardRecomputed(block: Block, x: Tensor, residual: Tensor | null, passes: readonly Pass[]): Stream {
  // All but the parameters: the caller may free it before the backward pass.
  const read = [x, residual, ...passes.flatMap(({ before, starts, constants }) => [starts, ...Object.values({ ...before }), ...Object.values({ ...constants })])];
  const given = [...new Set(read.filter((tensor) => tensor !== null && tensor !== undefined))];
  const [y, stream] = recompute(given, (inputs, again) => {
    const own = new Map(given.map((tensor, i) => [tensor, inputs[i] as Tensor]));
    const of = (tensor: Tensor) => own.get(tensor) as Tensor;
    const all = (memory: Memory | undefined) => memory && Object.fromEntries(Object.entries(memory).map(([name, tensor]) => [name, of(tensor)]));
    const result = block.forward(
      of(x),
      residual && of(residual),
      passes.map((pass) => ({
        ...pass,
        ...{ before: all(pass.before), starts: pass.starts && of(pass.starts), constants: all(pass.constants) },
        // The memory after it has been written by then, and may be the next batch's.
        after: again ? undefined : pass.after,
      })),
    );
    return [result.x, result.residual];
  }) as [Stream['x'], Stream['residual']];
  return { x: y, residual: stream };
}
