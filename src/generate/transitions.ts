import type { MambaLM } from '../models/index.js';
import { copyInto } from '../ops/view/view.js';
import type { Tensor } from '../tensor/index.js';

/** What a model's passes work out from its weights alone, kept while they stay as they are. */
export class Transitions {
  readonly tensors: readonly Tensor[];
  readonly #model: MambaLM;
  #version: number;

  constructor(model: MambaLM) {
    this.#model = model;
    this.#version = model.version;
    this.tensors = model.transitions();
  }

  /** Works them out again, where they lie, if the model has been trained since. */
  refresh(): void {
    const { version } = this.#model;
    if (version === this.#version) return;
    const fresh = this.#model.transitions();
    try {
      fresh.forEach((tensor, i) => {
        copyInto(tensor, this.tensors[i] as Tensor);
      });
    } finally {
      for (const tensor of fresh) tensor.dispose();
    }
    this.#version = version;
  }

  dispose(): void {
    for (const tensor of this.tensors) tensor.dispose();
  }
}
