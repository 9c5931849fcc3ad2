import { ArgumentError, describeValue, type ArgumentProblem } from '../../util/errors.js';

/** What the state of an LSSL approximates at first: all the past ('legs') or a window of it ('legt') by Legendre polynomials, or the past with a decay by Laguerre's ('lagt'). */
export const lsslMeasures = ['legs', 'legt', 'lagt'] as const;
export type LsslMeasure = (typeof lsslMeasures)[number];

/** What an LSSL looks like. Names of the official code in brackets. */
export interface LsslConfig {
  /** H: width of input and output [d] */
  readonly dModel: number;
  /** N: states of a feature [order, d_model] */
  readonly dState: number;
  /** M: outputs of a feature [channels] */
  readonly channels: number;
  /** [measure] */
  readonly measure: LsslMeasure;
  /** What is learned of A and B: nothing (0), one for all features (1), one for each feature (2) [learn] */
  readonly learn: 0 | 1 | 2;
  /** Whether Δ is learned [dt_learn] */
  readonly learnSteps: boolean;
  /** Range in which Δ starts [dt_min, dt_max] */
  readonly dtMin: number;
  readonly dtMax: number;
  /** Whether E is added to the outputs [bias] */
  readonly bias: boolean;
}

/** What `lsslConfig` is told; the rest has the published setting, but for N: that has 256. */
export type LsslOptions = Pick<LsslConfig, 'dModel'> & Partial<LsslConfig>;

/** @throws ArgumentError when the sizes cannot be */
export function lsslConfig(options: LsslOptions): LsslConfig {
  const config: LsslConfig = {
    ...{ dState: 64, channels: 1, measure: 'legs', learn: 1, learnSteps: true, dtMin: 0.001, dtMax: 0.1, bias: false },
    ...options,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'lsslConfig', ...problem });
  return config;
}

function problemOf(config: LsslConfig): ArgumentProblem | undefined {
  const { measure, learn, dtMin, dtMax } = config;
  const problem = (argument: string, expected: string, value: unknown): ArgumentProblem => ({ argument, expected, got: describeValue(value) });
  for (const [argument, most] of [['dModel', 2 ** 24], ['dState', 256], ['channels', 64]] as const) {
    const value = config[argument];
    if (!(Number.isInteger(value) && value >= 1 && value <= most)) return problem(argument, `an integer from 1 to ${most}`, value);
  }
  if (!lsslMeasures.includes(measure)) return problem('measure', `one of ${lsslMeasures.join(', ')}`, measure);
  if (![0, 1, 2].includes(learn)) return problem('learn', '0, 1 or 2', learn);
  for (const argument of ['learnSteps', 'bias'] as const) {
    if (typeof config[argument] !== 'boolean') return problem(argument, 'true or false', config[argument]);
  }
  if (!(dtMin > 0 && dtMin <= dtMax && dtMax < Infinity)) return problem('dtMin', 'a positive number of at most dtMax', dtMin);
  return undefined;
}
