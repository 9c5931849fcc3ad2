import { platform } from '#platform';
import { mostTaps } from '../../ops/causal-conv1d/arguments.js';
import { largestState } from '../../ops/selective-scan/plan.js';
import { ArgumentError } from '../../util/errors.js';

/** What a Mamba language model looks like. Letters: see docs/GLOSSARY. */
export interface MambaConfig {
  /** V: number of token ids. */
  readonly vocabularySize: number;
  /** D */
  readonly dModel: number;
  readonly layers: number;
  /** N: states per channel. */
  readonly dState: number;
  /** K: width of the convolution. */
  readonly dConv: number;
  /** E: channels of a mixer; usually 2·D. */
  readonly dInner: number;
  /** R: rank of the step-size projection. */
  readonly dtRank: number;
  /**
   * What stands between convolution and gate: 's6', the selective scan, whose Δ, B and C are functions of the input; or
   * 'lti', the same recurrence with Δ, B and C as parameters (S4D-real), to see what selection is worth.
   */
  readonly ssm: 's6' | 'lti';
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon: number;
  /** Whether in_proj and out_proj have biases. */
  readonly projectionBias: boolean;
  readonly convBias: boolean;
  /** Whether the head uses the embedding's weights. */
  readonly tiedHead: boolean;
  /** Ids that end a text, beside the tokenizer's own. */
  readonly endOfText: readonly number[];
  readonly initialisation: MambaInitialisation;
}

/** How parameters start; see `mambaInitialisers`. */
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
  /** Standard deviation of the embeddings. */
  readonly embeddingDeviation: number;
  /** Whether out_proj.weight is divided by √layers. */
  readonly rescaleOutput: boolean;
}

const defaultInitialisation: MambaInitialisation = {
  dtMin: 0.001,
  dtMax: 0.1,
  dtFloor: 1e-4,
  dtScale: 1,
  dtInit: 'random',
  embeddingDeviation: 0.02,
  rescaleOutput: true,
};

/**
 * The largest sizes that a config may have: what no published model comes near, and what a mistake of three noughts leaves far
 * behind. The convolution and the scan have room for no more.
 */
export const largestSizes = {
  vocabularySize: 2 ** 24,
  dModel: 2 ** 24,
  layers: 4096,
  dState: largestState,
  dConv: mostTaps,
  dInner: 2 ** 24,
  dtRank: 2 ** 24,
} as const satisfies Partial<Record<keyof MambaConfig, number>>;

/** The most parameters that a config may ask for. */
const mostParameters = 2 ** 40;

/**
 * A config with the published defaults: d_state 16, d_conv 4, expand 2, dt_rank ⌈D/16⌉, RMS norm, tied head, and no ids that end a
 * text beside the tokenizer's.
 * @throws ArgumentError when a size is no integer from 1 to the largest there may be (`layers`: 4096), when the parameters would be
 *   more than 2⁴⁰, or when an id that ends a text is not in the vocabulary
 */
export function mambaConfig(
  options: Pick<MambaConfig, 'vocabularySize' | 'dModel' | 'layers'> &
    Partial<Omit<MambaConfig, 'initialisation'>> & { expand?: number; initialisation?: Partial<MambaInitialisation> },
): MambaConfig {
  const { expand = 2, initialisation, ...rest } = options;
  const config: MambaConfig = {
    dState: 16,
    dConv: 4,
    dInner: expand * options.dModel,
    dtRank: Math.ceil(options.dModel / 16),
    ssm: 's6',
    norm: 'rms',
    normEpsilon: 1e-5,
    projectionBias: false,
    convBias: true,
    tiedHead: true,
    endOfText: [],
    ...rest,
    initialisation: { ...defaultInitialisation, ...initialisation },
  };
  checkConfig('mambaConfig', config);
  return config;
}

/**
 * Throws unless a model of this config can be: before anything of its sizes is made.
 * @throws ArgumentError as `mambaConfig`
 */
export function checkConfig(operation: string, config: MambaConfig): void {
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError(`${operation}: ${problem}`);
}

function problemOf(config: MambaConfig): string | undefined {
  for (const [key, most] of Object.entries(largestSizes) as [keyof typeof largestSizes, number][]) {
    if (Number.isInteger(config[key]) && config[key] > 0 && config[key] <= most) continue;
    return `${key} is ${String(config[key])}; expected an integer from 1 to ${String(most)}`;
  }
  const parameters = matrixParameters(config);
  if (parameters > mostParameters) {
    return `the parameters would be ${parameters.toPrecision(3)}; expected at most ${mostParameters.toPrecision(3)}`;
  }
  const stranger = config.endOfText.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < config.vocabularySize));
  if (stranger < 0) return undefined;
  return `endOfText[${String(stranger)}] is ${String(config.endOfText[stranger])}; expected an id in [0, V) = [0, ${String(config.vocabularySize)})`;
}

/**
 * Throws when the parameters would take more memory than the machine has: making them would end in swapping, or in death.
 * @throws ArgumentError
 */
export function expectRoom(operation: string, config: MambaConfig): void {
  const [needed, there] = [4 * matrixParameters(config), platform.memoryBytes];
  if (needed <= there) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  throw new ArgumentError(`${operation}: the parameters would take ${gigabytes(needed)}; this machine has ${gigabytes(there)}`);
}

/** Numbers in the matrices of a model, which are nearly all of its parameters. */
function matrixParameters({ vocabularySize, dModel, layers, dState, dConv, dInner, dtRank, ssm, tiedHead }: MambaConfig): number {
  const selection = ssm === 's6' ? 2 * (dtRank + dState) : 0;
  return (tiedHead ? 1 : 2) * vocabularySize * dModel + layers * dInner * (3 * dModel + dConv + dState + selection);
}
