import { destination, empty, expectShape, isRecording, launch, operation, record, type Operand, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import { expectStateDiscretization, type StateDiscretization } from '../vandermonde/vandermonde.js';
import { contiguous } from '../view/view.js';
import { checkSystem, systemOperands, type LinearSystem } from './arguments.js';
import * as kernels from './kernels.js';
import { rules } from './reference.js';

/** Positions between kept states: as many again are worked out anew on the way back. */
const chunk = 64;

/** Options of `ltiScan`. */
export interface LtiScanOptions {
  /** State before the first position, complex [B,H,N,2] f32; default zeros. */
  readonly initialState?: Tensor | null | undefined;
  /** Where the final state is written, [B,H,N,2] f32, other memory than the initial state's; default: a new tensor. */
  readonly finalState?: Tensor | undefined;
  /** [B,L] i32, nonzero at the first position of a document: the state is zero before it, whatever `initialState` is. */
  readonly sequenceStarts?: Tensor | null | undefined;
  /**
   * Time from the position before to each one, [B,L] f32, in steps of Δ. `change` and `input` are then Δ·A and Δ·B of a diagonal system,
   * which is made discrete at every position. No gradient goes to it. Default: steps of one length, by which `change` and `input` were
   * made discrete already.
   */
  readonly steps?: Tensor | null | undefined;
  /** How a system with `steps` is made discrete; default 'zoh'. */
  readonly discretization?: StateDiscretization | undefined;
}

/** What `ltiScan` makes. */
export interface LtiScanResult {
  /** [B,L,C·H], channel by channel */
  readonly y: Tensor<'f32'>;
  /** The state after the last position, complex [B,H,N,2]: the `initialState` of what follows. */
  readonly finalState: Tensor<'f32'>;
}

/**
 * A linear time-invariant recurrence with complex states for each feature, diagonal or diagonal plus low rank, one position after another:
 *
 *     s ← s + change·s + Σ_r left·2·Re(Σ right·s) + input·u      y = 2·Re(Σ C·s) + D·u
 *
 * States stand for pairs of conjugates, hence 2·Re. Differentiable by u, the system and the initial state, through both results.
 * @param u input [B,L,H] f32; rows may have gaps between them
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: the recurrent form of S4D and S4, Gu, Goel & Ré (2022), section 3.2 and appendix C.2.
 */
export function ltiScan(u: Tensor, system: LinearSystem, options: LtiScanOptions = {}): LtiScanResult {
  const name = 'ltiScan';
  const { initialState, sequenceStarts, steps, discretization = 'zoh' } = options;
  const operands: Record<string, Operand> = {
    ...{ u: [u, 'f32'], ...systemOperands(system), steps: [steps, 'f32?'], initialState: [initialState, 'f32?'] },
    ...{ finalState: [options.finalState, 'f32?'], sequenceStarts: [sequenceStarts, 'i32?'] },
  };
  return operation(name, operands, () => {
    const sizes = checkSystem(name, u, system, 'B,L');
    const { batch, length, features, states: count, channels, rank } = sizes;
    expectStateDiscretization(name, discretization);
    const stateShape = [batch, features, count, 2];
    if (initialState) expectShape(name, 'initialState', initialState.shape, stateShape, '[B,H,N,2]');
    if (sequenceStarts) expectShape(name, 'sequenceStarts', sequenceStarts.shape, [batch, length], '[B,L]');
    if (steps) {
      expectShape(name, 'steps', steps.shape, [batch, length], '[B,L]');
      if (rank > 0) throw new ArgumentError({ operation: name, argument: 'steps', expected: 'none, for a system that is more than diagonal', got: 'a tensor' });
    }
    const { backend } = u;
    const y = empty(backend, [batch, length, channels * features], 'f32');
    const finalState = destination(name, 'finalState', options.finalState, { backend, shape: stateShape, symbols: '[B,H,N,2]' });
    const kept = isRecording() ? empty(backend, [batch, Math.ceil(length / chunk), features, count, 2]) : null;
    const dense = (tensor: Tensor | null | undefined) => (tensor ? contiguous(tensor) : null);
    const own = {
      ...{ change: contiguous(system.change), input: contiguous(system.input), C: contiguous(system.C), D: dense(system.D) },
      ...{ left: dense(system.left), right: dense(system.right), steps: dense(steps) },
    };
    const [before, starts] = [dense(initialState), dense(sequenceStarts)];
    const parameters = { ...sizes, uPitch: u.pitch, rule: steps ? rules.indexOf(discretization) : 0, chunk };
    launch(kernels.ltiScan, { u, ...own, initialState: before, sequenceStarts: starts, y, finalState, kept }, parameters);
    record({
      operation: name,
      inputs: [u, own.change, own.input, own.C, own.D, own.left, own.right, before, own.steps],
      outputs: [y, finalState],
      saved: { u, ...own, sequenceStarts: starts, kept },
      backward({ cotangents: [dy, dFinalState], saved, needed }) {
        if (needed[8]) throw new ArgumentError({ operation: name, argument: 'steps', expected: 'a tensor that nothing is differentiated by', got: 'one that a gradient is asked for' });
        const like = (tensor: Tensor | null) => (tensor ? empty(backend, tensor.shape) : null);
        const du = needed[0] ? empty(backend, saved.u.shape) : null;
        const { change, input, C, D, left, right } = saved;
        const [dChange, dInput, dC] = [change, input, C].map((tensor) => empty(backend, tensor.shape)) as [Tensor, Tensor, Tensor];
        const [dD, dLeft, dRight] = [like(D), like(left), like(right)];
        const dInitialState = needed[7] ? empty(backend, stateShape) : null;
        launch(
          kernels.ltiScanBackward,
          {
            ...saved,
            kept: saved.kept as Tensor,
            ...{ dy: dy ?? null, dFinalState: dFinalState ? contiguous(dFinalState) : null },
            ...{ du, dChange, dInput, dC, dD, dLeft, dRight, dInitialState },
          },
          { ...parameters, dyPitch: dy?.pitch ?? 0 },
        );
        return [du, dChange, dInput, dC, dD, dLeft, dRight, dInitialState, null];
      },
    });
    return { y, finalState };
  });
}
