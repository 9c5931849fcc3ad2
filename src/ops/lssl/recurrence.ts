import { scope, type Tensor } from '../../tensor/index.js';
import { continuations } from '../causal-conv1d/continuations.js';
import { zeros } from '../create.js';
import { add, multiply } from '../elementwise/elementwise.js';
import { exactMatmul } from '../matmul/matmul.js';
import { concatenate, copyInto, reshape, split } from '../view/view.js';
import type { DiscreteDenseSystem } from './gbt.js';

/**
 * The matrix of a step, [H,N+M,N+1]: times (x, u) it gives what is added to x, and y = C·x + D·u of the new x.
 * @param C [H,M,N] @param D [H,M]
 */
export function stepMatrix({ change, input }: DiscreteDenseSystem, C: Tensor, D: Tensor): Tensor {
  return scope(() => {
    const [features = 0, channels = 0, states = 0] = C.shape;
    const moves = concatenate([change, input]);
    const outputs = add(exactMatmul(C, moves), concatenate([C, reshape(D, [features, channels, 1])]));
    const rows = [moves, outputs].map((part) => reshape(part, [features, part.size / features]));
    return reshape(concatenate(rows), [features, states + channels, states + 1]);
  });
}

/** Parts of a tensor's elements, in order, [1,size] each. */
const pieces = (x: Tensor, size: number): Tensor[] => split(reshape(x, [1, x.size]), new Array<number>(x.size / size).fill(size));

/** [rows,1] of each sequence, side by side: [rows,B]. */
const sideBySide = (parts: readonly Tensor[]): Tensor => scope(() => concatenate(parts.map((part) => reshape(part, [part.size, 1]))));

/** What `sideBySide` puts together, [1,rows] each. @param x [H,rows·B] */
const apart = (x: Tensor, batch: number): Tensor[] =>
  scope(() => split(reshape(x, [x.size / batch, batch]), new Array<number>(batch).fill(1)).map((part) => reshape(part, [1, part.size])));

/** One position. @param x [H,N·B] @param u [H,B] @returns the new x, and y of each sequence, [1,H·M] */
function moved(step: Tensor, x: Tensor, u: Tensor): { x: Tensor; y: Tensor[] } {
  return scope(() => {
    const [features = 0, rows = 0, inputs = 0] = step.shape;
    const { columns: batch } = u;
    const product = exactMatmul(step, reshape(concatenate([x, u]), [features, inputs, batch]));
    const channels = rows - inputs + 1;
    const [change, y] = split(reshape(product, [features, rows * batch]), [x.columns, channels * batch]) as [Tensor, Tensor];
    return { x: add(x, change), y: apart(y, batch) };
  });
}

/** What `denseScan` may be told besides. */
export interface DenseScanOptions {
  /** [B,H,N]; default zeros */
  readonly initialState?: Tensor | undefined;
  /** [B,L] i32, nonzero where a document starts: the state is zero before it. */
  readonly sequenceStarts?: Tensor | undefined;
}

/**
 * The recurrence x ← Ā·x + B̄·u, y = C·x + D·u, one position after another.
 * @param u [B,L,H] f32 @param step of `stepMatrix`
 * @returns y [B,L,H·M], and the state after the last position [B,H,N]
 */
export function denseScan(u: Tensor, step: Tensor, { initialState, sequenceStarts }: DenseScanOptions = {}): { y: Tensor; finalState: Tensor } {
  return scope(() => {
    const [batch = 0, length = 0, features = 0] = u.shape;
    const [, rows = 0, inputs = 0] = step.shape;
    const states = inputs - 1;
    const given = pieces(u, features);
    const kept = sequenceStarts && pieces(continuations(sequenceStarts), 1);
    const at = <T>(all: readonly T[], t: number): T[] => Array.from({ length: batch }, (_, b) => all[b * length + t] as T);
    let x = initialState ? reshape(sideBySide(pieces(initialState, features * states)), [features, states * batch]) : zeros(u.backend, [features, states * batch]);
    const outputs = Array.from({ length }, (_, t) => {
      const before = x;
      const after = scope(() => {
        const own = kept ? reshape(multiply(reshape(before, [features * states, batch]), reshape(concatenate(at(kept, t)), [batch])), before.shape) : before;
        return moved(step, own, sideBySide(at(given, t)));
      });
      x = after.x;
      // A recorder keeps what it needs of it.
      before.dispose();
      return after.y;
    });
    const y = Array.from({ length: batch }, (_, b) => outputs.map((all) => all[b] as Tensor)).flat();
    return {
      y: reshape(concatenate(y), [batch, length, features * (rows - states)]),
      finalState: reshape(concatenate(apart(x, batch)), [batch, features, states]),
    };
  });
}

/**
 * One position of `denseScan`; the state moves in place. Not differentiable by the state.
 * @param state [B,H,N], dense; overwritten @param u [B,H] @returns [B,H·M]
 */
export function denseStep(state: Tensor, u: Tensor, step: Tensor): Tensor {
  return scope(() => {
    const [batch = 0, features = 0, states = 0] = state.shape;
    const x = reshape(sideBySide(pieces(state, features * states)), [features, states * batch]);
    const { x: after, y } = moved(step, x, sideBySide(pieces(u, features)));
    copyInto(reshape(concatenate(apart(after, batch)), state.shape), state);
    return reshape(concatenate(y), [batch, y[0]?.columns ?? 0]);
  });
}
