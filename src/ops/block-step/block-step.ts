import { empty, expectRank, expectShape, launch, operation, scope, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { linear } from '../matmul/linear.js';
import { sum } from '../reduction/reduction.js';
import { rmsNormLinear } from '../norm-linear/norm-linear.js';
import { checkNorm } from '../rms-norm/arguments.js';
import { split } from '../view/view.js';
import * as kernels from './kernels.js';
import { mixerStep, type MixerStepState } from './mixer-step.js';
import { fits, mostSequences, partsOf } from './webgpu/extents.js';

/** The weights of a residual block. */
export interface BlockStepWeights {
  /** Of the norm, [D] f32 */
  readonly norm: Tensor;
  /** [2E,D], float or packed; so are xProj, dtProj and outProj */
  readonly inProj: Tensor;
  /** [E,K] f32 */
  readonly convWeight: Tensor;
  /** [E] f32 */
  readonly convBias: Tensor | null;
  /** [R+2N,E] */
  readonly xProj: Tensor;
  /** [E,R] */
  readonly dtProj: Tensor;
  /** [E] f32 */
  readonly dtBias: Tensor;
  /** −exp(A_log), [E,N] f32 */
  readonly A: Tensor;
  /** [E] f32 */
  readonly D: Tensor;
  /** [D,E] */
  readonly outProj: Tensor;
}

/** Options of `blockStep`. */
export interface BlockStepOptions {
  /** [B,D] f32 or f16, added to x first. */
  readonly residual?: Tensor | null;
  /** ε of the norm, default 1e-5. */
  readonly epsilon?: number;
  /** Whether the result may come in parts, for another `blockStep` to add up. Default: no. */
  readonly parts?: boolean;
}

/**
 * One position of a residual block of Mamba, for decoding: residual ← x + residual, x ← mixer(rmsNorm(residual)), where the mixer is
 *
 * (x, z) = inProj·x, u = silu(conv(x)), (dt, B, C) = xProj·u, Δ = softplus(dtProj·dt + dtBias), h ← exp(Δ·A)·h + Δ·B·u,
 * y = (C·h + D·u)·silu(z), outProj·y.
 *
 * Fused where the backend has a kernel for it and the weights are floats; otherwise composed of `rmsNormLinear`,
 * `causalConv1dStep`, `linear` and `selectiveScanStep`, as the number of launches shows. Not differentiable.
 *
 * @param x [B,D] f32 or f16; or what a `blockStep` with `parts` gave: [P,B,D] f32, to be added up
 * @param state conv [B,K−1,E] and ssm [B,E,N], f32, dense; updated in place
 * @returns x [B,D] of x's dtype, or in parts [P,B,D] f32, and the residual [B,D]; both must be disposed
 * @throws ShapeError, DTypeError when the arguments do not fit together
 *
 * Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", algorithm 2 and figure 3, one token at a time.
 */
export function blockStep(
  x: Tensor,
  state: MixerStepState,
  weights: BlockStepWeights,
  options: BlockStepOptions = {},
): { x: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
  const name = 'blockStep';
  const { residual = null, epsilon = 1e-5, parts: mayBeParts = false } = options;
  const { norm, inProj, convWeight, convBias, xProj, dtProj, dtBias, A, D, outProj } = weights;
  const operands: Record<string, Operand> = {
    ...{ x: [x, 'float'], residual: [residual, 'float?'], norm: [norm, 'f32'], inProj: [inProj, 'weight'], convWeight: [convWeight, 'f32'] },
    ...{ convBias: [convBias, 'f32?'], xProj: [xProj, 'weight'], dtProj: [dtProj, 'weight'], dtBias: [dtBias, 'f32'], A: [A, 'f32'] },
    ...{ D: [D, 'f32'], outProj: [outProj, 'weight'], 'state.conv': [state.conv, 'f32'], 'state.ssm': [state.ssm, 'f32'] },
  };
  return operation(name, operands, () => {
    const inParts = x.rank === 3;
    if (!inParts) expectRank(name, 'x', x.shape, 2, '[B,D] or [P,B,D]');
    expectRank(name, 'convWeight', convWeight.shape, 2, '[E,K]');
    expectRank(name, 'A', A.shape, 2, '[E,N]');
    const [batch = 0, width = 0] = x.shape.slice(-2);
    checkNorm(name, { rank: 2, shape: [batch, width], columns: width }, { norm }, epsilon, residual);
    const { rows: channels, columns: taps } = convWeight;
    const [stateSize, rank] = [A.columns, dtProj.columns];
    expectShape(name, 'inProj', inProj.shape, [2 * channels, width], '[2E,D]', 'E is the first extent of convWeight');
    expectShape(name, 'xProj', xProj.shape, [rank + 2 * stateSize, channels], '[R+2N,E]');
    expectShape(name, 'dtProj', dtProj.shape, [channels, rank], '[E,R]');
    expectShape(name, 'A', A.shape, [channels, stateSize], '[E,N]');
    expectShape(name, 'D', D.shape, [channels], '[E]');
    expectShape(name, 'dtBias', dtBias.shape, [channels], '[E]');
    if (convBias) expectShape(name, 'convBias', convBias.shape, [channels], '[E]');
    expectShape(name, 'outProj', outProj.shape, [width, channels], '[D,E]');
    expectShape(name, 'state.conv', state.conv.shape, [batch, taps - 1, channels], '[B,K−1,E]');
    expectShape(name, 'state.ssm', state.ssm.shape, [batch, channels, stateSize], '[B,E,N]');
    if (!canFuse(x, state, weights, residual)) return composed(x, state, weights, { epsilon, residual });

    const { backend } = x;
    const yParts = mayBeParts ? partsOf({ batch, width, channels }) : 0;
    const half = outProj.dtype === 'f16' || x.dtype === 'f16';
    const y = yParts > 0 ? empty(backend, [yParts, batch, width]) : empty(backend, [batch, channels], half ? 'f16' : 'f32');
    const added = residual !== null || inParts ? empty(backend, [batch, width]) : null;
    launch(
      kernels.blockStep,
      {
        ...{ x, residual, normWeight: norm, inProj, convState: state.conv, convWeight, convBias, xProj, dtProj, dtBias, A, D },
        ...{ ssmState: state.ssm, outProj: yParts > 0 ? outProj : null, y, sum: added },
      },
      { batch, width, xParts: inParts ? (x.shape[0] ?? 0) : 1, channels, taps, rank, stateSize, epsilon },
    );
    const sums = added ?? (x.retain() as Tensor<FloatDType>);
    if (yParts > 0) return { x: y, residual: sums };
    const projected = linear(y, outProj, null, { dtype: x.dtype === 'f16' ? 'f16' : 'f32' });
    return { x: projected, residual: sums };
  });
}

/** Whether the kernel can run and pays: floats, dense, usual extents, few sequences, on a backend that has it. */
function canFuse(x: Tensor, state: MixerStepState, weights: BlockStepWeights, residual: Tensor | null): boolean {
  const { norm, inProj, convWeight, xProj, dtProj, A, outProj } = weights;
  const [batch = 0] = x.shape.slice(-2);
  const { rows: channels, columns: taps } = convWeight;
  const halves = inProj.dtype === 'f16' && xProj.dtype === 'f16';
  const floats = [inProj, xProj, dtProj, outProj].every(({ dtype }) => dtype === 'f32' || dtype === 'f16');
  const all = [x, state.conv, state.ssm, norm, inProj, convWeight, xProj, dtProj, A, outProj, ...(residual ? [residual] : [])];
  const lie = floats && all.every((tensor) => tensor.dense && tensor.view.offset % 8 === 0);
  const few = x.size > 0 && batch <= mostSequences({ width: x.columns, channels, halves });
  const usual = fits({ width: x.columns, channels, taps, rank: dtProj.columns, stateSize: A.columns });
  return lie && few && usual && x.backend.supports(kernels.blockStep);
}

function composed(
  x: Tensor,
  state: MixerStepState,
  { norm, inProj, xProj, dtProj, outProj, ...others }: BlockStepWeights,
  options: { epsilon: number; residual: Tensor | null },
): { x: Tensor<FloatDType>; residual: Tensor<FloatDType> } {
  const select = (u: Tensor) => {
    const [stateSize, rank] = [others.A.columns, dtProj.columns];
    const [dt, B, C] = split(linear(u, xProj), [rank, stateSize, stateSize]) as [Tensor, Tensor, Tensor];
    return { delta: linear(dt, dtProj), B, C };
  };
  return scope(() => {
    const xz = rmsNormLinear(x.rank === 3 ? sum(x, 0) : x, norm, inProj, options);
    const y = mixerStep(xz.y, state, { ...others, select });
    return { x: linear(y, outProj), residual: xz.residual };
  });
}
