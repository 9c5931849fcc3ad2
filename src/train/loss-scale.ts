/** A scale of a loss, and how it moved so far. */
export interface LossScaleState {
  readonly value: number;
  /** Steps since it last changed. */
  readonly goodSteps: number;
}

const largest = 2 ** 24;
const growthInterval = 500;

/**
 * The factor by which the loss of a step in half precision is multiplied, so that small gradients do not vanish below f16's
 * smallest number: halved when a gradient overflows (that step is left out), doubled after 500 steps without one.
 *
 * Source: Micikevicius et al., "Mixed Precision Training" (2018), section 3.2, with the dynamic scale that its authors' software
 * uses; the interval is shorter than the customary 2,000, as runs here are short.
 */
export class LossScale {
  #value: number;
  #goodSteps: number;

  constructor(state: LossScaleState = { value: 2 ** 16, goodSteps: 0 }) {
    this.#value = state.value;
    this.#goodSteps = state.goodSteps;
  }

  get value(): number {
    return this.#value;
  }

  get state(): LossScaleState {
    return { value: this.#value, goodSteps: this.#goodSteps };
  }

  /** @param finite whether the gradients of the step were */
  update(finite: boolean): void {
    if (!finite) {
      this.#value = Math.max(1, this.#value / 2);
      this.#goodSteps = 0;
    } else if (++this.#goodSteps >= growthInterval) {
      this.#value = Math.min(largest, 2 * this.#value);
      this.#goodSteps = 0;
    }
  }
}
