import { ArgumentError } from '../../util/errors.js';
import { empty, expectRank, expectShape, formatShape, launch, operation, scope, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { linear } from '../matmul/linear.js';
import { rmsNormLinear } from '../norm-linear/norm-linear.js';
import { checkNorm } from '../rms-norm/arguments.js';
import type { SsdStepOptions } from '../ssd/arguments.js';
import { ssdStep } from '../ssd/ssd-step.js';
import { split } from '../view/view.js';
import * as kernels from './ssd-kernels.js';
import { ssdMixerStep, type SsdMixerState, type SsdMixerWeights } from './ssd-mixer-step.js';
import { channelsOut } from './webgpu/extents.js';
import { behindRow, entersWith, leavesInParts, leavesWith, mostEntering } from './webgpu/ssd-extents.js';

/** float32's largest number: a limit that is none. */
const largestFloat = 3.4028234663852886e38;

/** The weights of a residual block of Mamba-2. */
export interface SsdBlockStepWeights extends SsdMixerWeights {
  /** Of the block's norm, [D] f32 */
  readonly norm: Tensor;
  /** [2·H·P + 2·G·N + H, D], float or packed: z, x, B, C, Δ; so is outProj */
  readonly inProj: Tensor;
  /** Of the norm of what z gates, [H·P] f32; null: there is none */
  readonly gatedNorm: Tensor | null;
  /** [D,H·P] */
  readonly outProj: Tensor;
}

/** Options of `ssdBlockStep`. */
export interface SsdBlockStepOptions extends Pick<SsdStepOptions, 'groups' | 'deltaLimits'> {
  /** [B,D] f32 or f16, added to x first. */
  readonly residual?: Tensor | null;
  /** ε of the block's norm, default 1e-5. */
  readonly epsilon?: number;
  /** ε of the norm of what z gates, default 1e-5. */
  readonly gatedEpsilon?: number | undefined;
  /** Whether the result may come in parts, for another `ssdBlockStep` to add up. Default: no. */
  readonly parts?: boolean;
}

/**
 * One position of a residual block of Mamba-2, for decoding: residual ← x + residual, x ← mixer(rmsNorm(residual)), where the mixer is
 *
 * (z, x, B, C, Δ) = inProj·x, (x, B, C) ← silu(conv(x, B, C)), y = ssdStep(x, softplus(Δ + dtBias), A, B, C, D)·silu(z), outProj·rmsNorm(y).
 *
 * Fused where the backend has kernels for it and the weights are floats; otherwise composed of `rmsNormLinear`, `causalConv1dStep`
 * and `ssdStep`, as the number of launches shows. Not differentiable.
 *
 * @param x [B,D] f32 or f16; or what an `ssdBlockStep` with `parts` gave, [P,B,D+4] f32: x is the sum of the parts divided by the root of
 * the sum of their columns D
 * @param state conv [B,K−1,H·P + 2·G·N] and ssm [B,H,P,N], f32, dense; updated in place
 * @returns x [B,D] of x's dtype, or in parts [P,B,D+4] f32, and the residual [B,D]; both must be disposed
 * @throws ShapeError, DTypeError, ArgumentError when the arguments do not fit together
 *
 * Source: "Transformers are SSMs", Dao & Gu (2024), section 7 and figure 6, one token at a time.
 */
export function ssdBlockStep(
  x: Tensor,
  state: SsdMixerState,
  weights: SsdBlockStepWeights,
  options: SsdBlockStepOptions = {},
): { x: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
  const name = 'ssdBlockStep';
  const { residual = null, epsilon = 1e-5, gatedEpsilon = 1e-5, parts = false, groups = 1, deltaLimits } = options;
  const { norm, inProj, convWeight, convBias, dtBias, A, D, gatedNorm, outProj } = weights;
  const operands: Record<string, Operand> = {
    ...{ x: [x, 'float'], residual: [residual, 'float?'], norm: [norm, 'f32'], inProj: [inProj, 'weight'], convWeight: [convWeight, 'f32'] },
    ...{ convBias: [convBias, 'f32?'], dtBias: [dtBias, 'f32'], A: [A, 'f32'], D: [D, 'f32'], gatedNorm: [gatedNorm, 'f32?'] },
    ...{ outProj: [outProj, 'weight'], 'state.conv': [state.conv, 'f32'], 'state.ssm': [state.ssm, 'f32'] },
  };
  return operation(name, operands, () => {
    const scaled = x.rank === 3;
    if (!scaled) expectRank(name, 'x', x.shape, 2, '[B,D] or [P,B,D+4]');
    expectRank(name, 'state.ssm', state.ssm.shape, 4, '[B,H,P,N]');
    expectRank(name, 'convWeight', convWeight.shape, 2, '[H·P + 2·G·N, K]');
    const [batch = 0, columns = 0] = x.shape.slice(-2);
    const width = scaled ? columns - behindRow : columns;
    checkNorm(name, { rank: 2, shape: [batch, width], columns: width }, { norm }, epsilon, residual);
    const [, heads = 0, headSize = 0, stateSize = 0] = state.ssm.shape;
    const inner = heads * headSize;
    const { rows: channels, columns: taps } = convWeight;
    const outputs = inner + channels + heads;
    expectShape(name, 'state.ssm', state.ssm.shape, [batch, heads, headSize, stateSize], '[B,H,P,N]');
    expectShape(name, 'convWeight', convWeight.shape, [inner + 2 * groups * stateSize, taps], '[H·P + 2·G·N, K]');
    expectShape(name, 'state.conv', state.conv.shape, [batch, taps - 1, channels], '[B,K−1,H·P + 2·G·N]');
    expectShape(name, 'inProj', inProj.shape, [outputs, width], '[2·H·P + 2·G·N + H, D]');
    expectShape(name, 'outProj', outProj.shape, [width, inner], '[D,H·P]');
    for (const [argument, tensor] of Object.entries({ dtBias, A, D })) expectShape(name, argument, tensor.shape, [heads], '[H]');
    if (convBias) expectShape(name, 'convBias', convBias.shape, [channels], '[H·P + 2·G·N]');
    if (gatedNorm) expectShape(name, 'gatedNorm', gatedNorm.shape, [inner], '[H·P]');

    const { backend } = x;
    return scope(() => {
      const [least, largest] = deltaLimits ?? [0, Infinity];
      const out = (y: Tensor) => {
        const dtype = x.dtype === 'f16' ? 'f16' : 'f32';
        return gatedNorm === null ? linear(y, outProj, null, { dtype }) : rmsNormLinear(y, gatedNorm, outProj, { epsilon: gatedEpsilon, dtype }).y;
      };
      if (!canEnter(x, state, weights, { batch, width, taps, residual })) {
        if (scaled) throw new ArgumentError({ operation: name, argument: 'x', expected: '[B,D]; parts are for the kernels that made them', got: `a tensor ${formatShape(x.shape)}` });
        const entered = rmsNormLinear(x, norm, inProj, { epsilon, residual });
        return { x: out(ssdMixerStep(entered.y, state, weights, { groups, deltaLimits, gated: true }).y), residual: entered.residual };
      }
      const projected = empty(backend, [batch, outputs]);
      const added = residual !== null || scaled ? empty(backend, [batch, width]) : null;
      launch(
        kernels.ssdBlockEnter,
        { x, residual, normWeight: norm, inProj, convState: state.conv, convWeight, convBias, projected, sum: added },
        { batch, width, xParts: scaled ? (x.shape[0] ?? 0) : 1, scaled, gates: inner, channels, outputs, taps, epsilon },
      );
      const sums = added ?? (x.retain() as Tensor<FloatDType>);
      if (parts && canLeave(state, weights, { batch, width, headSize, stateSize })) {
        const y = empty(backend, [inner / channelsOut, batch, width + behindRow]);
        launch(
          kernels.ssdBlockLeave,
          { projected, dtBias, A, D, ssmState: state.ssm, normWeight: gatedNorm, outProj, y },
          { batch, width, heads, headSize, groups, stateSize, epsilon: gatedEpsilon, deltaLeast: least, deltaLargest: Math.min(largest, largestFloat) },
        );
        return { x: y, residual: sums };
      }
      const [z, u, B, C, delta] = split(projected, [inner, inner, groups * stateSize, groups * stateSize, heads]) as [Tensor, Tensor, Tensor, Tensor, Tensor];
      const y = ssdStep(state.ssm, u, delta, A, B, C, { groups, D, z, deltaBias: dtBias, deltaSoftplus: true, deltaLimits });
      return { x: out(y), residual: sums };
    });
  });
}

/** Whether memory is as the fused kernels read it. */
const lies = (...tensors: readonly (Tensor | null)[]): boolean => tensors.every((tensor) => tensor === null || (tensor.dense && tensor.view.offset % 8 === 0));
const float = ({ dtype }: Tensor): boolean => dtype === 'f32' || dtype === 'f16';

/** Whether the first kernel can run and pays. */
function canEnter(
  x: Tensor,
  state: SsdMixerState,
  { norm, inProj, convWeight, convBias }: SsdBlockStepWeights,
  { batch, width, taps, residual }: { batch: number; width: number; taps: number; residual: Tensor | null },
): boolean {
  const few = x.size > 0 && batch <= mostEntering({ width, halves: inProj.dtype === 'f16' });
  const known = float(inProj) && entersWith({ width, taps }) && lies(x, residual, norm, inProj, state.conv, convWeight, convBias);
  return few && known && x.backend.supports(kernels.ssdBlockEnter);
}

/** Whether the second kernel can run, and parts pay. */
function canLeave(
  state: SsdMixerState,
  { dtBias, A, D, gatedNorm, outProj }: SsdBlockStepWeights,
  { batch, width, headSize, stateSize }: { batch: number; width: number; headSize: number; stateSize: number },
): boolean {
  const known = float(outProj) && leavesWith({ headSize, stateSize }) && lies(state.ssm, dtBias, A, D, gatedNorm, outProj);
  return known && leavesInParts({ batch, width, channels: outProj.columns }) && outProj.backend.supports(kernels.ssdBlockLeave);
}
