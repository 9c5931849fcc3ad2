import { destination, empty, expectRank, expectShape, launch, operation, record, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { checkFilter, type ConvActivation } from './arguments.js';
import { causalConv1dBackward, causalConv1d as forward } from './kernels.js';

/** Options of `causalConv1d`. */
export interface CausalConv1dOptions {
  /** [E] f32 */
  readonly bias?: Tensor | null | undefined;
  /** Default 'none'. */
  readonly activation?: ConvActivation | undefined;
  /** [B,K−1,E] f32, the inputs before position 0, oldest first: an earlier call's `finalState`. Default: zeros. */
  readonly initialState?: Tensor | null | undefined;
  /** Where the final state is written [B,K−1,E] f32, other memory than the initial state's; default: a new tensor. */
  readonly finalState?: Tensor | undefined;
  /** [B,L] i32, nonzero where a document starts: its positions see nothing of what lies before it. */
  readonly sequenceStarts?: Tensor | null | undefined;
}

/**
 * Depthwise causal convolution along the sequence.
 *
 * y[t] = act(bias + Σⱼ weight[:, K−1−j]·x[t−j]), j = 0 … K−1, each channel by itself. Before position 0 lie the rows of the
 * initial state, the newest last.
 *
 * `finalState` is the last K−1 inputs, so that the next piece of the sequence can go on: `initialState` of the next call. Where
 * it reaches back over the start of a document (or over position 0), it holds zeros instead of the earlier documents' inputs
 * (or the initial state's rows): the document goes on as if it were alone.
 *
 * Differentiable in x, weight, bias and initialState, through both results.
 *
 * @param x [B,L,E] f32, or f16 where the backend has it (then y too); rows may have gaps
 * @param weight [E,K] f32; weight[:, K−1] belongs to the current position
 * @returns `y` [B,L,E] and `finalState` [B,K−1,E]; both must be disposed
 * @throws ShapeError, ArgumentError
 *
 * Source: the short convolution of Mamba (Gu & Dao 2023, section 3.4), weight as in its checkpoints' `conv1d.weight`
 * [E,1,K] without the middle axis. States and document starts are inputs here: they make any split of a sequence, and any
 * packing of sequences, give the same numbers.
 */
export function causalConv1d(
  x: Tensor,
  weight: Tensor,
  options: CausalConv1dOptions = {},
): { y: Tensor<FloatDType>; finalState: Tensor<'f32'> } {
  const { bias = null, activation = 'none', initialState = null, sequenceStarts = null } = options;
  const operands: Record<string, Operand> = {
    ...{ x: [x, 'float'], weight: [weight, 'f32'], bias: [bias, 'f32?'], initialState: [initialState, 'f32?'] },
    ...{ finalState: [options.finalState, 'f32?'], sequenceStarts: [sequenceStarts, 'i32?'] },
  };
  return operation('causalConv1d', operands, () => {
    expectRank('causalConv1d', 'x', x.shape, 3, '[B,L,E]');
    const [batch = 0, length = 0, channels = 0] = x.shape;
    const taps = checkFilter('causalConv1d', channels, weight, bias, activation);
    const stateShape = [batch, taps - 1, channels];
    if (initialState) expectShape('causalConv1d', 'initialState', initialState.shape, stateShape, '[B,K−1,E]');
    if (sequenceStarts) expectShape('causalConv1d', 'sequenceStarts', sequenceStarts.shape, [batch, length], '[B,L]');
    const { backend } = x;
    const extents = {
      batch,
      length,
      channels,
      taps,
      xPitch: x.pitch,
      weightPitch: weight.pitch,
      statePitch: initialState?.pitch ?? 0,
      startsPitch: sequenceStarts?.pitch ?? 0,
      silu: activation === 'silu',
    };
    const y = empty(backend, x.shape, x.dtype as FloatDType);
    const finalState = destination('causalConv1d', 'finalState', options.finalState, { backend, shape: stateShape, symbols: '[B,K−1,E]' });
    launch(forward, { x, weight, bias, initialState, sequenceStarts, y, finalState }, extents);
    record({
      operation: 'causalConv1d',
      inputs: [x, weight, bias, initialState],
      outputs: [y, finalState],
      saved: { x, weight, bias, initialState, sequenceStarts },
      backward({ cotangents: [dy = null, dfinalState = null], saved, needed }) {
        const wanted = (index: number, shape: readonly number[]) => (needed[index] ? empty(backend, shape) : null);
        const dx = needed[0] ? empty(backend, [batch, length, channels], saved.x.dtype) : null;
        const dweight = wanted(1, [channels, taps]);
        const dbias = wanted(2, [channels]);
        const dinitialState = wanted(3, stateShape);
        const { chunk, spans } = backwardPlan(batch, length);
        const partials = dweight || dbias ? empty(backend, [spans, taps + 1, channels]) : null;
        launch(
          causalConv1dBackward,
          { ...saved, dy, dfinalState, dx, dweight, dbias, dinitialState, partials },
          { ...extents, dyPitch: dy?.pitch ?? 0, dfinalPitch: dfinalState?.pitch ?? 0, chunk, spans },
        );
        return [dx, dweight, dbias, dinitialState];
      },
    });
    return { y, finalState };
  });
}

/**
 * How the backward pass cuts B sequences of L positions: chunks of `chunk` positions, shared out to `spans` runs that each sum
 * their own share of the weights' gradients. About 32 runs, none shorter than 64 positions where there are so many; the same
 * for any number of threads.
 */
function backwardPlan(batch: number, length: number): { chunk: number; spans: number } {
  const positions = Math.max(64, Math.ceil((batch * length) / 32));
  const chunks = Math.max(1, Math.ceil(length / positions));
  // A multiple of 8, so that the kernels' tiles of rows fill a chunk.
  const chunk = Math.max(8, 8 * Math.ceil(length / chunks / 8));
  const units = batch * Math.max(1, Math.ceil(length / chunk));
  return { chunk, spans: Math.max(1, Math.ceil(units / Math.max(1, Math.floor(positions / chunk)))) };
}
