import { add } from '../ops/index.js';
import { scope, withoutScope, type FloatDType, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';

/** Where a mixer puts scalars that training wants besides its output. */
export interface AuxiliarySink {
  /** Adds `value` to the loss. */
  loss(name: string, value: Tensor): void;
  /** Reports `value`, without a gradient. */
  measure(name: string, value: Tensor): void;
}

interface Entry {
  readonly kind: 'loss' | 'measure';
  readonly name: string;
  readonly value: Tensor;
}

/** The numbers of `Auxiliary`, by name. */
export interface AuxiliaryValues {
  /** Each the sum over the mixers that have it. */
  readonly losses: Readonly<Record<string, number>>;
  /** One number for each mixer that has it, in the model's order. */
  readonly measures: Readonly<Record<string, readonly number[]>>;
}

/**
 * Collects what a training pass gives beside its output: losses by name, such as the one that balances experts, and measures by name, such as the
 * share of dropped tokens. It keeps its tensors until it is disposed.
 */
export class Auxiliary implements AuxiliarySink, Disposable {
  readonly #entries: Entry[] = [];

  loss(name: string, value: Tensor): void {
    this.#add('loss', name, value);
  }

  measure(name: string, value: Tensor): void {
    this.#add('measure', name, value);
  }

  #add(kind: Entry['kind'], name: string, value: Tensor): void {
    this.#entries.push({ kind, name, value: withoutScope(() => value.retain()) });
  }

  /** How much was collected. */
  get size(): number {
    return this.#entries.length;
  }

  /** All that was collected, in order, as handles of the current scope. */
  tensors(): Tensor[] {
    return this.#entries.map(({ value }) => value.retain());
  }

  /** Tells `sink` of all that was collected, with `tensors` in place of its own. */
  tell(sink: AuxiliarySink, tensors: readonly Tensor[]): void {
    for (const [i, { kind, name }] of this.#entries.entries()) sink[kind](name, tensors[i] as Tensor);
  }

  /** loss + every auxiliary loss, recorded for gradients. */
  addTo(loss: Tensor<FloatDType>): Tensor<FloatDType> {
    return scope(() => this.#entries.reduce((sum, { kind, value }) => (kind === 'loss' ? add(sum, value) : sum), loss));
  }

  /** Reads the numbers. */
  async values(): Promise<AuxiliaryValues> {
    const losses: Record<string, number> = {};
    const measures: Record<string, number[]> = {};
    for (const { kind, name, value } of this.#entries) {
      const number = await value.item();
      if (kind === 'loss') losses[name] = (losses[name] ?? 0) + number;
      else (measures[name] ??= []).push(number);
    }
    return { losses, measures };
  }

  dispose(): void {
    for (const { value } of this.#entries.splice(0)) value.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }
}
