import { mostTaps } from '../../ops/causal-conv1d/arguments.js';
import { largestState } from '../../ops/selective-scan/plan.js';
import { describeValue, type ArgumentProblem } from '../../util/errors.js';

/** What a Mamba mixer looks like. */
export interface MambaMixerConfig {
  /** D */
  readonly dModel: number;
  /** E: channels; usually 2·D. */
  readonly dInner: number;
  /** N: states per channel. */
  readonly dState: number;
  /** K: width of the convolution. */
  readonly dConv: number;
  /** R: rank of the step-size projection. */
  readonly dtRank: number;
  /**
   * What stands between convolution and gate: 's6', the selective scan, whose Δ, B and C are functions of the input; or
   * 'lti', the same recurrence with Δ, B and C as parameters (S4D-real), to see what selection is worth.
   */
  readonly ssm: 's6' | 'lti';
  /** Whether in_proj and out_proj have biases. */
  readonly projectionBias: boolean;
  readonly convBias: boolean;
  /** ε of RMS norms without weights on what Δ, B and C are made of, as Falcon-Mamba has them; none: no norms. */
  readonly selectionNormEpsilon?: number;
  /** Layers of the model, for the start of out_proj. */
  readonly layers: number;
  readonly initialisation: MambaInitialisation;
}

/** How a mixer's parameters start; see `mambaInitialisers`. */
export interface MambaInitialisation {
  /** Range of the step sizes softplus(dt_proj.bias). */
  readonly dtMin: number;
  readonly dtMax: number;
  /** The smallest step size allowed after drawing. */
  readonly dtFloor: number;
  /** Factor on the bound R^−½ of dt_proj.weight. */
  readonly dtScale: number;
  /** Whether dt_proj.weight is uniform in ± its bound or the bound itself. */
  readonly dtInit: 'random' | 'constant';
  /** Whether out_proj.weight is divided by √layers. */
  readonly rescaleOutput: boolean;
}

/** What `mambaMixerConfig` is told; what is left out has the published default. */
export type MambaMixerOptions = Pick<MambaMixerConfig, 'dModel' | 'layers'> &
  Partial<Omit<MambaMixerConfig, 'initialisation'>> & { readonly expand?: number; readonly initialisation?: Partial<MambaInitialisation> };

/** A config with the published defaults: N = 16, K = 4, E = 2·D, R = ⌈D/16⌉; sizes are not checked (`sizeProblem` does). */
export function mambaMixerConfig({ expand = 2, initialisation, ...rest }: MambaMixerOptions): MambaMixerConfig {
  return {
    dState: 16,
    dConv: 4,
    dInner: expand * rest.dModel,
    dtRank: Math.ceil(rest.dModel / 16),
    ssm: 's6',
    projectionBias: false,
    convBias: true,
    ...rest,
    initialisation: { dtMin: 0.001, dtMax: 0.1, dtFloor: 1e-4, dtScale: 1, dtInit: 'random', rescaleOutput: true, ...initialisation },
  };
}

/**
 * The largest sizes that a config may have. No published model comes near; a mistake of three noughts is far beyond. The convolution
 * and the scan have no room for more.
 */
export const largestMixerSizes = {
  dModel: 2 ** 24,
  layers: 4096,
  dState: largestState,
  dConv: mostTaps,
  dInner: 2 ** 24,
  dtRank: 2 ** 24,
} as const satisfies Partial<Record<keyof MambaMixerConfig, number>>;

/** What is wrong with the sizes of a config: the first that is no integer from 1 to the largest there may be. */
export function sizeProblem<K extends string>(config: NoInfer<Readonly<Record<K, number>>>, largest: Readonly<Record<K, number>>): ArgumentProblem | undefined {
  for (const key of Object.keys(largest) as K[]) {
    if (Number.isInteger(config[key]) && config[key] > 0 && config[key] <= largest[key]) continue;
    return { argument: key, expected: `an integer from 1 to ${String(largest[key])}`, got: describeValue(config[key]) };
  }
  return undefined;
}

/** Numbers in the matrices of a mixer, which are nearly all of its parameters. */
export function mixerMatrixSize({ dModel, dState, dConv, dInner, dtRank, ssm }: MambaMixerConfig): number {
  const selection = ssm === 's6' ? 2 * (dtRank + dState) : 0;
  return dInner * (3 * dModel + dConv + dState + selection);
}
