import type { Sighting } from '../autograd/index.js';
import { ElapidError } from '../util/errors.js';

/** A step that was not taken, because its loss or its gradients cannot be right. */
export interface Divergence {
  /** The step it would have been. */
  readonly step: number;
  readonly loss: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  /** What the loss was held against, where it is finite and a spike. */
  readonly spike?: { readonly median: number; readonly limit: number };
  /**
   * Where it comes from, found by running the step again: of numbers that are not finite, the tensor that first holds one;
   * of a spike, the parameter's gradient that grew most. Null when the second run shows nothing.
   */
  readonly origin: DivergenceOrigin | null;
}

/** A tensor of a model, and the operation that reads or makes it. */
export interface DivergenceOrigin extends Omit<Sighting, 'norm'> {
  /** What it holds: NaN or Infinity; of a spike, how many times its recent norm a gradient has, both clipped. */
  readonly value: number;
}

/** Training cannot go on as it is. Weights, moments and checkpoints are as they were before the step. */
export class DivergenceError extends ElapidError {
  override name = 'DivergenceError';
  readonly divergence: Divergence;
  /** The message without its hint, which ends in no full stop. */
  readonly explanation: string;

  /** @param remarks sentences without full stops: why leaving out the step does not help, what is left of the run */
  constructor(
    divergence: Divergence,
    readonly remarks: readonly string[] = [],
  ) {
    const explanation = `train: ${[describeDivergence(divergence), ...remarks].join('. ')}`;
    super(`${explanation}. Hint: a lower learning rate, a longer warm-up, or leave such steps out (onDivergence: 'skip')`);
    this.divergence = divergence;
    this.explanation = explanation;
  }
}

/** What happened, in a line without a full stop. */
export function describeDivergence({ step, loss, gradientNorm, spike, origin }: Divergence): string {
  const at = `step ${step} has loss ${shown(loss)} and gradient norm ${shown(gradientNorm)}`;
  const against = spike === undefined ? '' : `, far above the recent median loss ${shown(spike.median)} (limit ${shown(spike.limit)})`;
  return `${at}${against}; ${spike === undefined ? describeNonFinite(origin) : describeGrowth(origin)}`;
}

function describeNonFinite(origin: DivergenceOrigin | null): string {
  if (origin === null) return 'run again, every operation gave finite numbers';
  const { module, operation, made, tensor, value } = origin;
  const who = module === '' ? operation : `${operation} in ${module}`;
  if (made === 'given') return `${value} was there before the step: ${tensor}, which ${who} reads`;
  return `${value} first appears ${made === 'forward' ? 'on the way forward' : 'on the way back'}, in ${who}: ${tensor}`;
}

function describeGrowth(origin: DivergenceOrigin | null): string {
  if (origin === null) return 'no gradient stands out';
  const { module, operation, tensor, value } = origin;
  return `of all gradients that of ${operation} in ${module} grew most, ${Number(value.toPrecision(2))} times: ${tensor}`;
}

const shown = (value: number): string => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value));
