import { largestStates } from '../../ops/lti-scan/arguments.js';
import type { StateDiscretization } from '../../ops/vandermonde/vandermonde.js';
import { ArgumentError, describeValue, type ArgumentProblem } from '../../util/errors.js';
import { diagonalNames, hippoNames, type DiagonalName, type HippoName } from './hippo.js';

/** How a state starts: a diagonal ('diag-…', S4D), or a HiPPO matrix as a diagonal plus low rank (S4). */
export type S4Init = `diag-${DiagonalName}` | HippoName;

/** What an S4 or S4D block looks like. Names of the official code in brackets. */
export interface S4Config {
  /** H [d_model] */
  readonly dModel: number;
  /** N, real states a feature; half as many complex ones are stored [d_state] */
  readonly dState: number;
  /** C, outputs a feature [channels] */
  readonly channels: number;
  /** [init]; default 'diag-lin' */
  readonly init: S4Init;
  /** R, the rank of what S4 adds to the diagonal: 1 or 2, that of the HiPPO matrix; 0 for S4D [rank] */
  readonly rank: number;
  /** S, how many A, B and P there are: a divisor of H [n_ssm] */
  readonly sets: number;
  /** [disc]; of S4, 'bilinear' */
  readonly discretization: StateDiscretization;
  /** Whether kernels are normed as those of DSS: only as a convolution [disc 'dss']. */
  readonly dss: boolean;
  /** Δ = exp(inv_dt) or softplus(inv_dt) [dt_transform] */
  readonly dtTransform: 'exp' | 'softplus';
  /** Range in which Δ starts [dt_min, dt_max] */
  readonly dtMin: number;
  readonly dtMax: number;
  /** Whether the states of a feature share their Δ [dt_tie] */
  readonly dtTied: boolean;
  /** Whether A, B and C are real [is_real] */
  readonly real: boolean;
  /** Whether a second kernel reads the positions ahead: only as a convolution [bidirectional] */
  readonly bidirectional: boolean;
  /** The length that C̃ belongs to; 0: C is C [l_kernel] */
  readonly kernelLength: number;
  /** Width of the block's input gate in multiples of H; 0: there is none [gate] */
  readonly gate: number;
  /** Of the input gate [gate_act] */
  readonly gateActivation: S4Activation;
  /** After the gates' product [mult_act] */
  readonly multActivation: S4Activation;
  /** After the convolution [activation] */
  readonly activation: S4Activation;
  /** How channels are mixed at the end: a product and a gated linear unit, a product, or not at all [final_act 'glu', 'id', null] */
  readonly output: 'glu' | 'linear' | 'none';
}

export const s4Activations = ['none', 'gelu', 'relu', 'tanh', 'sigmoid', 'silu'] as const;
export type S4Activation = (typeof s4Activations)[number];

/** What `s4Config` is told; what is left out has the official default, but for `init` and `dtTransform`. */
export type S4Options = Pick<S4Config, 'dModel'> & Partial<Omit<S4Config, 'rank'>>;

const isDiagonal = (init: string): boolean => init.startsWith('diag-');

/** A config with the defaults for what was not given; nothing is checked. */
export function s4Defaults(options: S4Options): S4Config {
  const { init = 'diag-lin' } = options;
  const diagonal = isDiagonal(init);
  return {
    ...{ dState: 64, channels: 1, sets: diagonal ? options.dModel : 1, discretization: diagonal ? 'zoh' : 'bilinear', dss: false, dtTransform: 'exp', dtMin: 0.001, dtMax: 0.1 },
    ...{ dtTied: true, real: false, bidirectional: false, kernelLength: 0, gate: 0, gateActivation: 'gelu', multActivation: 'none', activation: 'gelu', output: 'glu' },
    ...options,
    ...{ init, rank: diagonal ? 0 : init === 'legt' ? 2 : 1 },
  };
}

/** @throws ArgumentError when the sizes cannot be */
export function s4Config(options: S4Options): S4Config {
  const config = s4Defaults(options);
  const problem = s4Problem(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 's4Config', ...problem });
  return config;
}

/** What is wrong with a config. */
export function s4Problem(config: S4Config): ArgumentProblem | undefined {
  const { dModel, dState, channels, init, rank, sets, discretization, dss, dtTransform, dtMin, dtMax, real, kernelLength, gate, bidirectional } = config;
  const problem = (argument: string, expected: string, value: unknown): ArgumentProblem => ({ argument, expected, got: describeValue(value) });
  const whole = (argument: string, value: number, least: number, most: number) =>
    Number.isInteger(value) && value >= least && value <= most ? undefined : problem(argument, `an integer from ${least} to ${most}`, value);
  const inits: string[] = [...diagonalNames.map((name) => `diag-${name}`), ...hippoNames];
  const sized =
    whole('dModel', dModel, 1, 2 ** 24) ?? whole('dState', dState, 1, largestStates) ?? whole('channels', channels, 1, 32) ?? whole('sets', sets, 1, dModel) ??
    whole('gate', gate, 0, 64) ?? whole('kernelLength', kernelLength, 0, 2 ** 30);
  if (sized !== undefined) return sized;
  if (!inits.includes(init)) return problem('init', `one of ${inits.join(', ')}`, init);
  if (!real && dState % 2 !== 0) return problem('dState', 'an even number, since states are pairs of conjugates', dState);
  if (dModel % sets !== 0) return problem('sets', `a divisor of dModel = ${dModel}`, sets);
  if (!['zoh', 'bilinear'].includes(discretization)) return problem('discretization', "'zoh' or 'bilinear'", discretization);
  if (!['exp', 'softplus'].includes(dtTransform)) return problem('dtTransform', "'exp' or 'softplus'", dtTransform);
  if (!(dtMin > 0 && dtMin <= dtMax && dtMax < Infinity)) return problem('dtMin', 'a positive number of at most dtMax', dtMin);
  for (const name of ['gateActivation', 'multActivation', 'activation'] as const) {
    if (!s4Activations.includes(config[name])) return problem(name, `one of ${s4Activations.join(', ')}`, config[name]);
  }
  if (!['glu', 'linear', 'none'].includes(config.output)) return problem('output', "'glu', 'linear' or 'none'", config.output);
  const isS4 = !isDiagonal(init);
  if (rank !== s4Defaults({ dModel, init }).rank) return problem('rank', 'that of init', rank);
  if (isS4 && discretization !== 'bilinear') return problem('discretization', "'bilinear', as S4 is always made discrete", discretization);
  if (real && init !== 'diag-real') return problem('init', "'diag-real', for states that are real", init);
  if (isS4 && dss) return problem('dss', 'false, where A is more than diagonal', dss);
  if (!isS4 && kernelLength !== 0) return problem('kernelLength', '0, where A is diagonal', kernelLength);
  if (bidirectional && channels > 16) return problem('channels', 'at most 16 of a bidirectional block', channels);
  return undefined;
}
