import { recompute } from '../autograd/recompute.js';
import type { Tensor } from '../tensor/index.js';
import { Auxiliary } from './auxiliary.js';
import type { Block } from './block.js';
import type { Memory, Pass, Places, Stream } from './mixer.js';

/** `block.forward`, of which only what goes into it is kept: the gradients run the block again. */
export function forwardRecomputed(block: Block, x: Tensor, residual: Tensor | null, passes: readonly Pass[]): Stream {
  // All but the parameters: the caller may free it before the backward pass.
  const ofPass = ({ before, places, starts, constants }: Pass): (Tensor | undefined)[] => [starts, ...Object.values({ ...before }), ...Object.values({ ...places }), ...Object.values({ ...constants })];
  const read = [x, residual, ...passes.flatMap(ofPass)];
  const given = [...new Set(read.filter((tensor) => tensor !== null && tensor !== undefined))];
  // What mixers tell comes out of the recomputation as the block's output does, to have its gradient.
  const told = passes.map(({ auxiliary }) => (auxiliary === undefined ? undefined : new Auxiliary()));
  const [y, stream, ...values] = recompute(given, (inputs, again) => {
    const own = new Map(given.map((tensor, i) => [tensor, inputs[i] as Tensor]));
    const of = (tensor: Tensor) => own.get(tensor) as Tensor;
    const all = (tensors: Memory | Places | undefined) =>
      tensors && Object.fromEntries(Object.entries(tensors as Readonly<Record<string, Tensor | undefined>>).map(([name, tensor]) => [name, tensor && of(tensor)]));
    const collected = passes.map((_, i) => (again && told[i] !== undefined ? new Auxiliary() : told[i]));
    const result = block.forward(
      of(x),
      residual && of(residual),
      passes.map((pass, i) => ({
        ...pass,
        auxiliary: collected[i],
        ...{ before: all(pass.before) as Memory | undefined, places: all(pass.places), starts: pass.starts && of(pass.starts), constants: all(pass.constants) as Memory | undefined },
        // The memory after it has been written by then, and may be the next batch's.
        after: again ? undefined : pass.after,
      })),
    );
    const values = collected.flatMap((auxiliary) => auxiliary?.tensors() ?? []);
    if (again) for (const auxiliary of collected) auxiliary?.dispose();
    return [result.x, result.residual, ...values];
  }) as [Stream['x'], Stream['residual'], ...Tensor[]];
  for (const [i, { auxiliary }] of passes.entries()) {
    const own = told[i];
    if (auxiliary === undefined || own === undefined) continue;
    own.tell(auxiliary, values.splice(0, own.size));
    own.dispose();
  }
  return { x: y, residual: stream };
}
