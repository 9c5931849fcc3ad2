import { destination, empty, expectNumber, expectShape, isRecording, launch, operation, record, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { roundedFactors } from '../matmul/rounding.js';
import { contiguous } from '../view/view.js';
import { checkSsdOperands, ssdOperands, type SsdStepOptions } from './arguments.js';
import * as kernels from './kernels.js';
import { mostChunk, planSsd } from './plan.js';

/** Options of `ssd`. */
export interface SsdOptions extends SsdStepOptions {
  /** State before the first position [B,H,P,N] f32; default zeros. */
  readonly initialState?: Tensor | null | undefined;
  /** Where the final state is written [B,H,P,N] f32, other memory than the initial state's; default: a new tensor. */
  readonly finalState?: Tensor | undefined;
  /** [B,L] i32, nonzero at the first position of a document: the state is zero before it, whatever `initialState` is. */
  readonly sequenceStarts?: Tensor | null | undefined;
  /**
   * Positions of a chunk, 1 to 256, of which at most 32768/N; default 64 or fewer, and for x in f16 as many as there may be. Results differ by rounding alone. Longer chunks keep fewer
   * states for the gradient (P·N numbers a head and chunk) and take more multiplications.
   */
  readonly chunk?: number | undefined;
}

/** What `ssd` makes. */
export interface SsdResult {
  /** [B,L,H·P] */
  readonly y: Tensor<FloatDType>;
  /** The state after the last position [B,H,P,N]: the `initialState` of what follows. */
  readonly finalState: Tensor<'f32'>;
}

/**
 * State space duality, the operation of Mamba-2: a recurrence over a state of P·N numbers a head, whose decay is one number a
 * head and position, so that most of it is matrix products.
 *
 * With Δ = softplus(delta + deltaBias), held within `deltaLimits`, for each head:
 *
 *     Sₜ = exp(Δₜ·A)·Sₜ₋₁ + Δₜ·xₜ·Bₜᵀ      yₜ = (Sₜ·Cₜ + D·xₜ)·silu(zₜ)
 *
 * Head h reads B and C of group ⌊h·G/H⌋. Differentiable by every float tensor, through both results. Heads lie side by side in
 * the last axis, and rows may have gaps between them: the parts that `split` cuts from one projection need no copy.
 *
 * As linear attention with decay: x are values, B keys, C queries, and exp(Δ·A) is how much of the past remains.
 *
 * @param x input [B,L,H·P] f32; x, delta, B, C and z may be f16 where the backend has it
 * @param delta step sizes before bias and softplus [B,L,H]
 * @param A decay rates [H] f32; negative for a state that forgets
 * @param B input weights [B,L,G·N], N at most 512
 * @param C output weights [B,L,G·N]
 * @returns y [B,L,H·P], of x's dtype, and finalState [B,H,P,N]
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: Dao & Gu, "Transformers are SSMs" (2024), section 6 and listing 1; groups: section 7.1. Added to the paper: the gate,
 * limits of Δ, initial and final state, document starts.
 */
export function ssd(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, options: SsdOptions = {}): SsdResult {
  const name = 'ssd';
  const { D = null, z = null, deltaBias = null, initialState, sequenceStarts, chunk } = options;
  const operands: Record<string, Operand> = {
    ...ssdOperands({ x, delta, A, B, C }, options),
    ...{ initialState: [initialState, 'f32?'], finalState: [options.finalState, 'f32?'], sequenceStarts: [sequenceStarts, 'i32?'] },
  };
  return operation(name, operands, () => {
    const { sizes, parameters } = checkSsdOperands(name, { x, delta, A, B, C }, options, 'B,L');
    const { batch, length, heads, headSize, groups, stateSize } = sizes;
    const stateShape = [batch, heads, headSize, stateSize];
    if (initialState) expectShape(name, 'initialState', initialState.shape, stateShape, '[B,H,P,N]');
    if (sequenceStarts) expectShape(name, 'sequenceStarts', sequenceStarts.shape, [batch, length], '[B,L]');
    if (chunk !== undefined) {
      const most = mostChunk(stateSize);
      expectNumber(name, 'chunk', chunk, (n) => Number.isInteger(n) && n >= 1 && n <= most, `an integer from 1 to ${most}`);
    }

    const { backend } = x;
    const plan = planSsd(sizes, chunk, x.dtype === 'f16');
    const y = empty(backend, x.shape, x.dtype as FloatDType);
    const finalState = destination(name, 'finalState', options.finalState, { backend, shape: stateShape, symbols: '[B,H,P,N]' });
    const states = isRecording() ? empty(backend, [batch, plan.chunks, heads, stateSize, headSize]) : null;
    const dense = {
      A: contiguous(A),
      initialState: initialState ? contiguous(initialState) : null,
      sequenceStarts: sequenceStarts ? contiguous(sequenceStarts) : null,
    };
    const all = { ...sizes, ...parameters, chunk: plan.chunk, blockHeads: plan.blockHeads };
    launch(kernels.ssd, { x, delta, B, C, D, z, deltaBias, ...dense, y, finalState, states }, { ...all, bf16: roundedFactors(backend.precision, length).bf16 });

    record({
      operation: name,
      inputs: [x, delta, dense.A, B, C, D, z, deltaBias, dense.initialState],
      outputs: [y, finalState],
      saved: { x, delta, A: dense.A, B, C, D, z, deltaBias, sequenceStarts: dense.sequenceStarts, states },
      backward({ cotangents: [dy, dFinalState], saved, needed }) {
        const like = (input: Tensor | null, i: number) => (input && needed[i] ? empty(backend, input.shape, input.dtype) : null);
        const gradients = [saved.x, saved.delta, saved.A, saved.B, saved.C, saved.D, saved.z, saved.deltaBias].map(like);
        const [dx, dDelta, dA, dB, dC, dD, dz, dDeltaBias] = gradients;
        const dInitialState = needed[8] ? empty(backend, stateShape) : null;
        const parts = plan.blocks > 1 && (dB ?? dC) ? empty(backend, [plan.blocks, 2, batch, length, groups * stateSize]) : null;
        launch(
          kernels.ssdBackward,
          {
            ...saved,
            states: saved.states as Tensor,
            ...{ dy: dy ?? null, dFinalState: dFinalState ? contiguous(dFinalState) : null },
            ...{ dx, dDelta, dA, dB, dC, dD, dz, dDeltaBias, dInitialState },
            ...{ sequenceParts: parts, headParts: empty(backend, [batch, plan.chunks, heads, headSize + 2]) },
          },
          { ...all, dyPitch: dy?.pitch ?? 0 },
        );
        return [...gradients, dInitialState];
      },
    });
    return { y, finalState };
  });
}
