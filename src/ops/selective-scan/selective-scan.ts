import { destination, empty, expectShape, isRecording, launch, operation, record, scope, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import { checkScanOperands, scanOperands, type ScanOptions } from './arguments.js';
import * as kernels from './kernels.js';
import { planScan } from './plan.js';
import { scaledByTime } from './steps.js';

export interface SelectiveScanOptions extends ScanOptions {
  /** State before the first step [B,E,N] f32; default zeros. */
  readonly initialState?: Tensor | null | undefined;
  /** Where the final state is written [B,E,N] f32, other memory than the initial state's; default: a new tensor. */
  readonly finalState?: Tensor | undefined;
  /** [B,L] i32, nonzero at the first position of a document: the state is zero before that step. */
  readonly sequenceStarts?: Tensor | null | undefined;
  /**
   * Scan from the last position to the first, each document from its end: `initialState` is then what precedes position
   * L − 1, and the final state is the state at position 0.
   */
  readonly reverse?: boolean | undefined;
}

/** What a scan makes. */
export interface SelectiveScanResult {
  /** [B,L,E] */
  readonly y: Tensor<FloatDType>;
  /** The state after the last step of the scan [B,E,N]: the `initialState` of what follows. */
  readonly finalState: Tensor<'f32'>;
}

/**
 * Selective scan: a linear recurrence whose step size, input and output weights change from position to position.
 *
 * With Δ = softplus(delta + deltaBias), for each channel e and state n:
 * hₜ = exp(Δₜ·A)·hₜ₋₁ + Δₜ·Bₜ·uₜ, yₜ = (Σₙ Cₜ·hₜ + D·uₜ)·silu(zₜ).
 *
 * Differentiable by every float tensor, through both results. Rows may have gaps between them: slices need no copy.
 *
 * @param u input [B,L,E] f32; u, delta, B, C and z may be f16 where the backend has it
 * @param delta step sizes before bias and softplus [B,L,E] f32
 * @param A decay rates [E,N] f32, at most 2048 states; negative for a state that forgets
 * @param B input weights [B,L,N] f32
 * @param C output weights [B,L,N] f32
 * @param options D, z, deltaBias, deltaSoftplus, steps, initialState, finalState, sequenceStarts, reverse, discretization
 * @returns y [B,L,E], of u's dtype, and finalState [B,E,N]
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", sections 3.2 (algorithm 2), 3.3.2 and
 * appendix D. The paper's equation 4 has the exact zero-order hold; the default here is B̄ = Δ·B, which its checkpoints were
 * trained with ('zoh' gives equation 4). Added to the paper: initial and final state, document starts, the reverse scan.
 */
export function selectiveScan(
  u: Tensor,
  delta: Tensor,
  A: Tensor,
  B: Tensor,
  C: Tensor,
  options: SelectiveScanOptions = {},
): SelectiveScanResult {
  const name = 'selectiveScan';
  const { D = null, z = null, deltaBias = null, deltaSoftplus = false, reverse = false, discretization = 'euler' } = options;
  const { initialState, sequenceStarts, steps } = options;
  if (steps) {
    return scope(() => {
      const scaled = scaledByTime(name, delta, steps, options, '[B,L]');
      return selectiveScan(u, scaled.delta, A, B, C, scaled.options);
    });
  }
  const operands: Record<string, Operand> = {
    ...scanOperands({ u, delta, A, B, C }, options),
    ...{ initialState: [initialState, 'f32?'], finalState: [options.finalState, 'f32?'], sequenceStarts: [sequenceStarts, 'i32?'] },
  };
  return operation(name, operands, () => {
    const { batch, length, channels, stateSize } = checkScanOperands(name, { u, delta, A, B, C }, options, 'B,L');
    const stateShape = [batch, channels, stateSize];
    if (initialState) expectShape(name, 'initialState', initialState.shape, stateShape, '[B,E,N]');
    if (sequenceStarts) expectShape(name, 'sequenceStarts', sequenceStarts.shape, [batch, length], '[B,L]');

    const { backend } = u;
    const plan = planScan(backend.kind, batch, length, channels);
    const y = empty(backend, u.shape, u.dtype as FloatDType);
    const finalState = destination(name, 'finalState', options.finalState, { backend, shape: stateShape, symbols: '[B,E,N]' });
    const states = isRecording() ? empty(backend, [batch, plan.chunks, stateSize, channels]) : null;
    const carries = emptyCarries(u, plan.segments, stateSize);
    const dense = {
      A: contiguous(A),
      initialState: initialState ? contiguous(initialState) : null,
      sequenceStarts: sequenceStarts ? contiguous(sequenceStarts) : null,
    };
    const parameters = {
      batch,
      length,
      channels,
      stateSize,
      uPitch: u.pitch,
      deltaPitch: delta.pitch,
      zPitch: z?.pitch ?? 0,
      bPitch: B.pitch,
      cPitch: C.pitch,
      softplus: deltaSoftplus,
      reverse,
      hold: discretization === 'zoh',
      chunk: plan.chunk,
      segments: plan.segments,
    };
    launch(kernels.selectiveScan, { u, delta, B, C, D, z, deltaBias, ...dense, y, finalState, states, carries }, parameters);

    record({
      operation: name,
      inputs: [u, delta, dense.A, B, C, D, z, deltaBias, dense.initialState],
      outputs: [y, finalState],
      saved: { u, delta, A: dense.A, B, C, D, z, deltaBias, sequenceStarts: dense.sequenceStarts, states },
      backward({ cotangents: [dy, dFinalState], saved, needed }) {
        const like = (input: Tensor | null, i: number) => (input && needed[i] ? empty(backend, input.shape, input.dtype) : null);
        const gradients = [saved.u, saved.delta, saved.A, saved.B, saved.C, saved.D, saved.z, saved.deltaBias].map(like);
        const [du, dDelta, dA, dB, dC, dD, dz, dDeltaBias] = gradients;
        const dInitialState = needed[8] ? empty(backend, stateShape) : null;
        const sequences = plan.groups > 1 ? empty(backend, [plan.groups, 2, batch, length, stateSize]) : null;
        launch(
          kernels.selectiveScanBackward,
          {
            ...saved,
            states: saved.states as Tensor,
            ...{ dy: dy ?? null, dFinalState: dFinalState ? contiguous(dFinalState) : null },
            ...{ du, dDelta, dA, dB, dC, dD, dz, dDeltaBias, dInitialState },
            sequenceParts: sequences,
            channelParts: empty(backend, [batch * plan.segments, channels, stateSize + 2]),
            carries: emptyCarries(saved.u, plan.segments, stateSize),
          },
          { ...parameters, dyPitch: dy?.pitch ?? 0, groupChannels: plan.groupChannels },
        );
        return [...gradients, dInitialState];
      },
    });
    return { y, finalState };
  });
}

/** Room for the states at the ends of segments; none where the shape leaves no thread idle. */
function emptyCarries({ backend, shape: [batch = 0, , channels = 0] }: Tensor, segments: number, stateSize: number): Tensor | null {
  return segments > 1 ? empty(backend, [batch, segments, stateSize + 1, channels]) : null;
}
