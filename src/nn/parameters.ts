import { Random } from '../util/random.js';
import { keep, sizeOf, tensor, type Backend, type DType, type Shape, type Tensor } from '../tensor/index.js';
import type { Initialiser } from './initialisers.js';
import type { Linear } from './layers.js';

/** A trainable tensor under its checkpoint key. The tensor may be replaced (by an optimiser's flat storage). */
export class Parameter {
  /** The optimiser whose storage the tensor is a part of and that updates it; null: none. */
  optimiser: object | null = null;

  /** @param decay whether weight decay applies @param packing formats for inference that it stands */
  constructor(
    readonly key: string,
    public tensor: Tensor,
    readonly decay: boolean,
    readonly packing: Packing,
  ) {}
}

/**
 * Formats for inference that a parameter stands: any ('whole'), any of 8 bits and more ('atLeastInt8'), or float32 alone ('never'),
 * as small parameters and those of the dynamics.
 */
export type Packing = 'whole' | 'atLeastInt8' | 'never';

/** What a module asks for when it is built. */
export interface ParameterRequest {
  readonly shape: Shape;
  readonly initialiser: Initialiser;
  /** Default 'never'. */
  readonly packing?: Packing;
  /** Default true. The published training recipe spares A_log, D, biases and norm weights. */
  readonly decay?: boolean;
}

/** Gives the tensor of a parameter: from a checkpoint, from its initialiser, or without values. */
export type TensorSource = (key: string, request: ParameterRequest) => Tensor;

/**
 * Hands parameters to modules while a model is built and lists them in that order. `at` prefixes keys as in checkpoints:
 * `parameters.at('layers').at('0')`.
 */
export class ParameterStore {
  readonly #prefix: string;
  readonly #source: TensorSource;
  readonly #all: Parameter[];
  readonly #linears: Map<string, Linear>;
  readonly #tables: Tensor[];

  constructor(source: TensorSource, prefix = '', parent: { all: Parameter[]; linears: Map<string, Linear>; tables: Tensor[] } = { all: [], linears: new Map(), tables: [] }) {
    this.#source = source;
    this.#prefix = prefix;
    this.#all = parent.all;
    this.#linears = parent.linears;
    this.#tables = parent.tables;
  }

  /** All parameters given out so far, under any prefix. */
  get all(): readonly Parameter[] {
    return this.#all;
  }

  /** All linear layers made so far, by their keys, those of their weights without `.weight` (`backbone.layers.0.mixer.in_proj`): what adapters attach to. */
  get linears(): ReadonlyMap<string, Linear> {
    return this.#linears;
  }

  /** Tensors that follow from the config alone, such as a table of frequencies. They live as long as the parameters. */
  get tables(): readonly Tensor[] {
    return this.#tables;
  }

  at(name: string): ParameterStore {
    return new ParameterStore(this.#source, `${this.#prefix}${name}.`, { all: this.#all, linears: this.#linears, tables: this.#tables });
  }

  /** Adds a tensor to `tables`, and takes it out of its scope. */
  hold<D extends DType>(table: Tensor<D>): Tensor<D> {
    this.#tables.push(table);
    return keep(table);
  }

  /** Adds a linear layer, whose parameters a store gave, to `linears`. */
  list(linear: Linear): void {
    this.#linears.set(linear.weight.key.replace(/\.?weight$/, ''), linear);
  }

  get(name: string, request: ParameterRequest): Parameter {
    const key = this.#prefix + name;
    const parameter = new Parameter(key, keep(this.#source(key, request)), request.decay ?? true, request.packing ?? 'never');
    this.#all.push(parameter);
    return parameter;
  }
}

/**
 * Parameters as their initialisers make them. Each draws from its own stream, chosen by seed and key: the same whatever the
 * order, and never computed by a backend that holds no values.
 */
export function initialParameters(backend: Backend, seed: number): TensorSource {
  return (key, { shape, initialiser }) => tensor(backend, () => initialiser(shape, new Random(seed, hash(key))), shape);
}

/** Number of values of a list of parameters. */
export function countParameters(parameters: readonly Parameter[]): number {
  return parameters.reduce((sum, { tensor: { shape } }) => sum + sizeOf(shape), 0);
}

/** FNV-1a over the UTF-16 code units. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
