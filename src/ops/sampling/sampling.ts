import { expectNumber, expectShape, expectTensors, launch, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import * as kernels from './kernels.js';

/** Where `sampleTokens` leaves what it draws: memory that stays, so that a captured step can be replayed. */
export interface SampledTokens {
  /** [B] i32, dense: the ids of this step, overwritten. */
  readonly ids: Tensor;
  /** [1] i32: the number of this step, which is also the position in `history`; raised by 1. */
  readonly counter: Tensor;
  /** [B,T] i32, dense: ids go to [:, counter] while that is below T; the rest stays as it is. */
  readonly history?: Tensor | null;
}

/** How `sampleTokens` draws. */
export interface SampleTokensOptions {
  /** Divides the logits; ≥ 0. 0 is greedy: the largest logit, the first of equals. */
  readonly temperature: number;
  /** Seed of the draws, an integer in [0, 2³²). */
  readonly seed: number;
}

/**
 * Draws the next token of each row on the device, with probability softmax(logits / temperature). The same seed, step, row and
 * logits give the same id on every backend, but for what the last bits of float32 decide.
 *
 * NaN and −∞ are never drawn. Where a row has nothing else the id is −1, which `embedding` turns into NaN: a device cannot throw.
 *
 * Not differentiable and not recorded. Temperature and seed are part of the launch; a captured program moves on by its counter.
 *
 * @param logits [B,V] f32 or f16
 * @throws DTypeError, ShapeError when the tensors do not fit together
 * @throws ArgumentError when a number is out of its range, or `history` is not dense
 *
 * Source: the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow & Minka, "A* Sampling", 2014).
 */
export function sampleTokens(
  logits: Tensor,
  { ids, counter, history = null }: SampledTokens,
  { temperature, seed }: SampleTokensOptions,
): void {
  expectTensors('sampleTokens', { logits: [logits, 'float'], ids: [ids, 'i32'], counter: [counter, 'i32'], history: [history, 'i32?'] });
  const { rows, columns } = logits;
  expectShape('sampleTokens', 'logits', logits.shape, [rows, columns], '[B,V]');
  expectShape('sampleTokens', 'ids', ids.shape, [rows], '[B]', 'B is the first extent of logits');
  expectShape('sampleTokens', 'counter', counter.shape, [1], '[1]');
  if (history) expectShape('sampleTokens', 'history', history.shape, [rows, history.columns], '[B,T]');
  for (const [name, tensor] of Object.entries({ ids, counter, ...(history && { history }) })) {
    if (tensor.dense) continue;
    const [expected, got] = ['a dense tensor', 'one with gaps between its rows'];
    throw new ArgumentError({ operation: 'sampleTokens', argument: name, expected, got });
  }
  expectNumber('sampleTokens', 'temperature', temperature, (value) => value >= 0 && value < Infinity, 'a number ≥ 0');
  expectNumber('sampleTokens', 'seed', seed, (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32, 'an integer in [0, 2³²)');
  launch(
    kernels.sampleTokens,
    { logits, ids, counter, history },
    { rows, columns, logitsPitch: logits.pitch, capacity: history?.columns ?? 0, seed, temperature },
  );
}
