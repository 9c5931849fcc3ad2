import { initialParameters, ParameterStore, type Parameter } from '../../nn/index.js';
import { formatShape, type Backend, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, ShapeError } from '../../util/errors.js';
import { largestMixerSizes, mambaMixerConfig, sizeProblem } from './config.js';
import { MambaMixer } from './mixer.js';

/** Sizes of a `Mamba` layer; the defaults are the paper's. */
export interface MambaOptions {
  /** D: width of the input and the output. */
  readonly dModel: number;
  /** N: states per channel; default 16. */
  readonly dState?: number;
  /** K: width of the convolution; default 4. */
  readonly dConv?: number;
  /** E / D: channels of the scan for each of the input's; default 2. */
  readonly expand?: number;
  /** R: rank of the step-size projection; default ⌈D/16⌉. */
  readonly dtRank?: number;
  /** Of the initial weights; default 0. */
  readonly seed?: number;
}

/**
 * One Mamba layer by itself, with the official initialisation: projection, convolution, selective scan, gate, projection (the
 * paper's figure 3). It has no norm and no residual connection, as `Mamba` of mamba_ssm has none.
 * @throws ArgumentError when a size is not a positive integer
 */
export class Mamba {
  readonly backend: Backend;
  /** The weights, under mamba_ssm's names (`in_proj.weight`, `A_log`, …). */
  readonly parameters: readonly Parameter[];
  readonly #mixer: MambaMixer;
  readonly #dModel: number;

  constructor({ seed = 0, ...sizes }: MambaOptions, backend: Backend) {
    const config = mambaMixerConfig({ layers: 1, ...sizes });
    const problem = sizeProblem(config, largestMixerSizes);
    if (problem !== undefined) throw new ArgumentError({ operation: 'Mamba', ...problem });
    const store = new ParameterStore(initialParameters(backend, seed));
    this.backend = backend;
    this.#mixer = new MambaMixer(store, config);
    this.#dModel = config.dModel;
    this.parameters = store.all;
  }

  /**
   * @param x [B,L,D]
   * @returns [B,L,D]
   * @throws ShapeError when x is of another shape
   */
  forward(x: Tensor): Tensor<FloatDType> {
    if (x.rank !== 3 || x.columns !== this.#dModel) {
      throw new ShapeError({ operation: 'Mamba.forward', argument: 'x', expected: `[B,L,${this.#dModel}]`, got: formatShape(x.shape) });
    }
    return this.#mixer.forward(x);
  }

  /** Frees the weights. */
  dispose(): void {
    for (const { tensor } of this.parameters) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
