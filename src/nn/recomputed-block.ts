import { recompute } from '../autograd/recompute.js';
import type { Tensor } from '../tensor/index.js';
import type { Block } from './block.js';
import type { Memory, Pass, Places, Stream } from './mixer.js';

/** `block.forward`, of which only what goes into it is kept: the gradients run the block again. */
export function forwardRecomputed(block: Block, x: Tensor, residual: Tensor | null, passes: readonly Pass[]): Stream {
  // All but the parameters: the caller may free it before the backward pass.
  const ofPass = ({ before, places, starts, constants }: Pass): (Tensor | undefined)[] => [starts, ...Object.values({ ...before }), ...Object.values({ ...places }), ...Object.values({ ...constants })];
  const read = [x, residual, ...passes.flatMap(ofPass)];
  const given = [...new Set(read.filter((tensor) => tensor !== null && tensor !== undefined))];
  const [y, stream] = recompute(given, (inputs, again) => {
    const own = new Map(given.map((tensor, i) => [tensor, inputs[i] as Tensor]));
    const of = (tensor: Tensor) => own.get(tensor) as Tensor;
    const all = (tensors: Memory | Places | undefined) =>
      tensors && Object.fromEntries(Object.entries(tensors as Readonly<Record<string, Tensor | undefined>>).map(([name, tensor]) => [name, tensor && of(tensor)]));
    const result = block.forward(
      of(x),
      residual && of(residual),
      passes.map((pass) => ({
        ...pass,
        ...{ before: all(pass.before) as Memory | undefined, places: all(pass.places), starts: pass.starts && of(pass.starts), constants: all(pass.constants) as Memory | undefined },
        // The memory after it has been written by then, and may be the next batch's.
        after: again ? undefined : pass.after,
      })),
    );
    return [result.x, result.residual];
  }) as [Stream['x'], Stream['residual']];
  return { x: y, residual: stream };
}
