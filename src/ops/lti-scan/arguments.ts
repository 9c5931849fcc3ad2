import { ArgumentError } from '../../util/errors.js';
import { expectRank, expectShape, formatShape, type Operand, type Tensor } from '../../tensor/index.js';

/** Complex states a feature may have, at most. */
export const largestStates = 256;
/** Outputs of a feature, at most. */
export const largestChannels = 64;
/** Ranks of what is added to a diagonal, at most. */
export const largestRank = 4;

/** A linear system for each feature: what a step adds to its state, and what comes out of it. Complex numbers have a last axis of 2. */
export interface LinearSystem {
  /** Ā − 1 of each state, [H,N,2] f32: a float32 can say this of slow states, but not Ā. */
  readonly change: Tensor;
  /** B̄, [H,N,2] f32 */
  readonly input: Tensor;
  /** [C,H,N,2] f32, C at most 64 */
  readonly C: Tensor;
  /** [C,H] f32: adds D·u to y; default: nothing. */
  readonly D?: Tensor | null | undefined;
  /** Of a state that is diagonal plus low rank: adds Σ_r left·2·Re(right·s); [R,H,N,2] f32, R at most 4. Both or none. */
  readonly left?: Tensor | null | undefined;
  readonly right?: Tensor | null | undefined;
}

export const systemOperands = ({ change, input, C, D, left, right }: LinearSystem): Record<string, Operand> => ({
  ...{ change: [change, 'f32'], input: [input, 'f32'], C: [C, 'f32'], D: [D, 'f32?'], left: [left, 'f32?'], right: [right, 'f32?'] },
});

/**
 * Checks what a sequence and a step share.
 * @throws ShapeError, ArgumentError
 */
export function checkSystem(operation: string, u: Tensor, { change, input, C, D, left, right }: LinearSystem, symbols: 'B,L' | 'B') {
  expectRank(operation, 'u', u.shape, symbols === 'B' ? 2 : 3, `[${symbols},H]`);
  expectRank(operation, 'change', change.shape, 3, '[H,N,2]');
  expectRank(operation, 'C', C.shape, 4, '[C,H,N,2]');
  for (const [argument, tensor] of Object.entries({ u, change, C })) {
    if (tensor.shape.includes(0)) throw new ArgumentError({ operation, argument, expected: 'no extent of 0', got: formatShape(tensor.shape) });
  }
  const [batch = 0, length = 1] = u.shape.slice(0, -1);
  const features = u.columns;
  const [, states = 0] = change.shape;
  const [channels = 0] = C.shape;
  expectShape(operation, 'change', change.shape, [features, states, 2], '[H,N,2]', 'H is the last extent of u');
  expectShape(operation, 'input', input.shape, change.shape, '[H,N,2]', 'as change');
  expectShape(operation, 'C', C.shape, [channels, ...change.shape], '[C,H,N,2]', 'H and N as of change');
  if (D) expectShape(operation, 'D', D.shape, [channels, features], '[C,H]', 'C is the first extent of C');
  if (states > largestStates) {
    throw new ArgumentError({ operation, argument: 'change', expected: `at most ${largestStates} states (N)`, got: formatShape(change.shape) });
  }
  if (channels > largestChannels) {
    throw new ArgumentError({ operation, argument: 'C', expected: `at most ${largestChannels} outputs a feature (C)`, got: formatShape(C.shape) });
  }
  if ((left === undefined || left === null) !== (right === undefined || right === null)) {
    throw new ArgumentError({ operation, argument: left ? 'right' : 'left', expected: 'a tensor, as the other factor is there', got: 'none' });
  }
  const rank = left?.shape[0] ?? 0;
  if (left && right) {
    if (rank < 1 || rank > largestRank) {
      throw new ArgumentError({ operation, argument: 'left', expected: `a rank of 1 to ${largestRank}`, got: formatShape(left.shape) });
    }
    for (const [argument, factor] of Object.entries({ left, right })) {
      expectShape(operation, argument, factor.shape, [rank, ...change.shape], '[R,H,N,2]', 'H and N as of change');
    }
  }
  return { batch, length, features, states, channels, rank };
}
