import type { Memory, Mixer } from '../nn/index.js';
import { copyInto } from '../ops/view/view.js';
import { scope, withoutScope, type Tensor } from '../tensor/index.js';
import { ArgumentError } from '../util/errors.js';

/** What `Prepared` needs of a model. */
interface PreparedModel {
  readonly mixers: readonly Mixer[];
  /** Grows whenever a weight is written to. */
  readonly version: number;
}

/** What a model's passes work out from its weights alone, kept while the weights stay as they are. */
export class Prepared {
  /** Of each mixer. */
  readonly constants: readonly Memory[];
  readonly #model: PreparedModel;
  #version: number;

  constructor(model: PreparedModel) {
    this.#model = model;
    this.#version = model.version;
    this.constants = constantsOf(model);
  }

  /** Works them out again, where they lie, if the model has been trained since. */
  refresh(): void {
    const { version } = this.#model;
    if (version === this.#version) return;
    const fresh = constantsOf(this.#model);
    try {
      for (const [i, constants] of fresh.entries()) {
        for (const [name, tensor] of Object.entries(constants)) copyInto(tensor, (this.constants[i] as Memory)[name] as Tensor);
      }
    } finally {
      dispose(fresh);
    }
    this.#version = version;
  }

  /**
   * Throws unless this is of `model`.
   * @throws ArgumentError
   */
  expectOf(operation: string, model: PreparedModel): void {
    if (this.#model === model) return;
    const [expected, got] = ['what prepare() of this model gave', 'another model’s'];
    throw new ArgumentError({ operation, argument: 'prepared', expected, got });
  }

  dispose(): void {
    dispose(this.constants);
  }
}

const constantsOf = ({ mixers }: PreparedModel): Memory[] =>
  withoutScope(() => scope(() => mixers.map((mixer) => scope(() => mixer.constants?.() ?? {}))));

function dispose(all: readonly Memory[]): void {
  for (const constants of all) for (const tensor of Object.values(constants)) tensor.dispose();
}
