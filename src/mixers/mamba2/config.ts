import { mostTaps } from '../../ops/causal-conv1d/arguments.js';
import { largestStateSize } from '../../ops/ssd/plan.js';
import { describeValue, type ArgumentProblem } from '../../util/errors.js';
import { sizeProblem } from '../mamba/config.js';

/** What a Mamba-2 mixer looks like. */
export interface Mamba2MixerConfig {
  /** D */
  readonly dModel: number;
  /** E: width before the projection back; usually 2·D. */
  readonly dInner: number;
  /** H·P: channels of the state space model; the other E − H·P are a plain gated unit. Usually E. */
  readonly dSsm: number;
  /** N: states per channel. */
  readonly dState: number;
  /** K: width of the convolution. */
  readonly dConv: number;
  /** P: channels a head. */
  readonly headSize: number;
  /** G: the heads of a group share B and C. */
  readonly groups: number;
  /** Whether D has a weight for each channel, not one for each head. */
  readonly skipPerChannel: boolean;
  /** The RMS norm that z gates; null: z gates without a norm. */
  readonly gatedNorm: GatedNormConfig | null;
  /** Step sizes are clamped to this range; no clamp: 0 to ∞. */
  readonly dtLimit: readonly [least: number, most: number];
  /** Whether in_proj and out_proj have biases. */
  readonly projectionBias: boolean;
  readonly convBias: boolean;
  readonly initialisation: Mamba2Initialisation;
}

/** The norm of a mixer's output. */
export interface GatedNormConfig {
  readonly epsilon: number;
  /** Parts of the width that are normed each by itself. */
  readonly groups: number;
  /** Norm(y) ⊙ silu(z) in place of Norm(y ⊙ silu(z)). */
  readonly normBeforeGate: boolean;
}

/** How a mixer's parameters start; see `mamba2Initialisers`. */
export interface Mamba2Initialisation {
  /** Range of the step sizes softplus(dt_bias). */
  readonly dtMin: number;
  readonly dtMax: number;
  /** The smallest step size allowed after drawing. */
  readonly dtFloor: number;
  /** Range of −A. */
  readonly aMin: number;
  readonly aMax: number;
  /** The convolution's weights start uniform in ± this; null: as PyTorch's, in ±K^−½. */
  readonly convBound: number | null;
}

/** What `mamba2MixerConfig` is told; what is left out has the published default. */
export type Mamba2MixerOptions = Pick<Mamba2MixerConfig, 'dModel'> &
  Partial<Omit<Mamba2MixerConfig, 'initialisation' | 'gatedNorm'>> & {
    readonly expand?: number;
    readonly gatedNorm?: Partial<GatedNormConfig> | null;
    readonly initialisation?: Partial<Mamba2Initialisation>;
  };

/**
 * A config with the published defaults: N = 128, K = 4, E = 2·D, P = 64, one group, a gated norm over the groups' channels. Sizes are not
 * checked (`mixerProblem` does).
 */
export function mamba2MixerConfig({ expand = 2, gatedNorm, initialisation, ...rest }: Mamba2MixerOptions): Mamba2MixerConfig {
  const dInner = rest.dInner ?? innerOf(expand, rest.dModel);
  const groups = rest.groups ?? 1;
  return {
    dSsm: dInner,
    dState: 128,
    dConv: 4,
    headSize: 64,
    skipPerChannel: false,
    dtLimit: [0, Infinity],
    projectionBias: false,
    convBias: true,
    ...rest,
    ...{ dInner, groups },
    gatedNorm: gatedNorm === null ? null : { epsilon: 1e-5, groups, normBeforeGate: false, ...gatedNorm },
    initialisation: { dtMin: 0.001, dtMax: 0.1, dtFloor: 1e-4, aMin: 1, aMax: 16, convBound: null, ...initialisation },
  };
}

/** E of a multiple of D, rounded down. A multiple that was worked out by division may be off by its last digit. */
export function innerOf(expand: number, dModel: number): number {
  const [product, nearest] = [expand * dModel, Math.round(expand * dModel)];
  return Math.abs(product - nearest) <= 1e-9 * product ? nearest : Math.floor(product);
}

/** H: heads of the state space model. */
export const headsOf = ({ dSsm, headSize }: Pick<Mamba2MixerConfig, 'dSsm' | 'headSize'>): number => dSsm / headSize;

/** The largest sizes that a config may have. No published model comes near. */
export const largestMamba2Sizes = {
  ...{ dModel: 2 ** 24, dInner: 2 ** 24, dSsm: 2 ** 24, dState: largestStateSize, dConv: mostTaps, headSize: 2 ** 16, groups: 2 ** 16 },
} as const satisfies Partial<Record<keyof Mamba2MixerConfig, number>>;

/** What is wrong with a config. */
export function mixerProblem(config: Mamba2MixerConfig): ArgumentProblem | undefined {
  const { dInner, dSsm, headSize, groups, gatedNorm, dtLimit } = config;
  const sizes = sizeProblem(config, largestMamba2Sizes);
  if (sizes !== undefined) return sizes;
  if (dSsm > dInner) return { argument: 'dSsm', expected: `at most dInner = ${dInner}`, got: String(dSsm) };
  if (dSsm % headSize !== 0) return { argument: 'headSize', expected: `a divisor of dSsm = ${dSsm}`, got: String(headSize) };
  const heads = headsOf(config);
  if (heads % groups !== 0) return { argument: 'groups', expected: `a divisor of the number of heads, ${heads}`, got: String(groups) };
  if (gatedNorm !== null && !(Number.isInteger(gatedNorm.groups) && gatedNorm.groups > 0 && dSsm % gatedNorm.groups === 0)) {
    return { argument: 'gatedNorm.groups', expected: `a divisor of dSsm = ${dSsm}`, got: describeValue(gatedNorm.groups) };
  }
  const [least, most] = dtLimit;
  if (!(least >= 0 && least < most)) return { argument: 'dtLimit', expected: 'two numbers, 0 ≤ least < most', got: `[${least}, ${most}]` };
  return undefined;
}

/** Numbers in the matrices of a mixer, which are nearly all of its parameters. */
export const mixerMatrixSize = ({ dModel, dInner, dState, groups, dSsm, headSize, dConv }: Mamba2MixerConfig): number =>
  dModel * (3 * dInner + 2 * groups * dState + dSsm / headSize) + dConv * (dSsm + 2 * groups * dState);

/** The size of heads that nobody chose: 64, or the next below that divides the channels. */
export function usualHeadSize(channels: number): number {
  for (let size = 64; size > 1; size--) if (channels % size === 0) return size;
  return 1;
}
