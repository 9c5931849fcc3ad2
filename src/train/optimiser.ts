import { fill } from '../backend/memory/kernels.js';
import type { Parameter } from '../nn/index.js';
import { adamwStep, globalNorm } from '../ops/index.js';
import { noPackedGradient } from '../ops/packed/packed.js';
import { copyInto } from '../ops/view/view.js';
import { empty, isPacked, launch, scope, withoutScope, type Backend, type GradientSum, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, DisposedError } from '../util/errors.js';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled decay of the parameters marked for it. */
  readonly weightDecay: number;
  /** Gradients are scaled down to this global norm; Infinity: never. */
  readonly maxGradientNorm: number;
}

/** Parameters start at multiples of this many elements in flat storage: 256 bytes, as GPUs want what is bound apart. */
const alignment = 64;

/**
 * AdamW over flat storage: parameters, gradients and moments are one buffer each, the decayed parameters first, so that a
 * step is one launch. Takes the parameters over: their tensors become views of the flat buffer.
 */
export class FlatAdamW implements Disposable {
  readonly parameters: readonly Parameter[];
  readonly options: AdamWOptions;
  readonly #flat: Tensor;
  readonly #gradients: Tensor;
  readonly #firstMoments: Tensor;
  readonly #secondMoments: Tensor;
  readonly #decayCount: number;
  readonly #ranges = new Map<Parameter, number>();
  readonly #sums = new Map<Tensor, GradientSum>();
  #disposed = false;
  /** Steps taken so far. */
  step = 0;

  /** @throws ArgumentError when a parameter is packed: such are for inference; when another optimiser has it and was not disposed */
  constructor(backend: Backend, parameters: readonly Parameter[], options: AdamWOptions) {
    const taken = parameters.find(({ optimiser }) => optimiser !== null);
    if (taken !== undefined) throw takenParameter(taken);
    const packed = parameters.find(({ tensor }) => isPacked(tensor.dtype));
    if (packed !== undefined) throw noPackedGradient('AdamW', packed.tensor.dtype);
    this.options = options;
    this.parameters = [...parameters.filter(({ decay }) => decay), ...parameters.filter(({ decay }) => !decay)];
    let size = 0;
    let decayCount = 0;
    for (const parameter of this.parameters) {
      this.#ranges.set(parameter, size);
      size += Math.ceil(parameter.tensor.size / alignment) * alignment;
      if (parameter.decay) decayCount = size;
    }
    this.#decayCount = decayCount;
    [this.#flat, this.#gradients, this.#firstMoments, this.#secondMoments] = withoutScope(() =>
      scope(() => [0, 1, 2, 3].map(() => zeros(backend, size))),
    ) as [Tensor, Tensor, Tensor, Tensor];
    withoutScope(() => {
      for (const parameter of this.parameters) {
        const { shape } = parameter.tensor;
        const at = this.#ranges.get(parameter) ?? 0;
        const place = this.#flat.aliased(shape, at);
        copyInto(parameter.tensor, place);
        parameter.tensor.dispose();
        parameter.tensor = place;
        parameter.optimiser = this;
        this.#sums.set(place, { total: this.#gradients.aliased(shape, at), empty: true });
      }
    });
  }

  /** Where the backward pass adds the gradients: for `valueAndGradients`. */
  get gradientSums(): ReadonlyMap<Tensor, GradientSum> {
    return this.#sums;
  }

  /** Begins new sums: the next gradients replace the old ones. */
  clearGradients(): void {
    for (const sum of this.#sums.values()) sum.empty = true;
  }

  /**
   * Global norm of the gradients summed so far, before clipping: a scalar the caller disposes.
   * @param gradientScale multiplies the gradients: 1/S where the loss was scaled by S
   */
  gradientNorm(gradientScale = 1): Tensor {
    this.#expectLive('gradientNorm');
    for (const sum of this.#sums.values()) {
      // A parameter the loss does not depend on.
      if (sum.empty) launch(fill, { values: sum.total }, { value: 0, count: sum.total.size });
      sum.empty = false;
    }
    return withoutScope(() => globalNorm(this.#gradients, gradientScale));
  }

  /**
   * One step with the gradients summed so far.
   * @param norm what `gradientNorm` gave for the same scale; where it is not finite, nothing changes
   */
  update(learningRate: number, norm: Tensor, gradientScale = 1): void {
    this.#expectLive('update');
    this.step++;
    const { maxGradientNorm, ...rest } = this.options;
    adamwStep(
      {
        parameters: this.#flat,
        gradients: this.#gradients,
        firstMoments: this.#firstMoments,
        secondMoments: this.#secondMoments,
        decayCount: this.#decayCount,
        gradientNorm: norm,
        gradientScale,
        ...(Number.isFinite(maxGradientNorm) ? { maxGradientNorm } : {}),
      },
      { learningRate, ...rest, step: this.step },
    );
  }

  /** Whether all parameters and moments are finite. */
  async finite(): Promise<boolean> {
    this.#expectLive('finite');
    const norms = withoutScope(() => scope(() => [this.#flat, this.#firstMoments, this.#secondMoments].map((values) => globalNorm(values))));
    try {
      const values = await Promise.all(norms.map((norm) => norm.item()));
      return values.every((value) => Number.isFinite(value));
    } finally {
      for (const norm of norms) norm.dispose();
    }
  }

  /** By key, the norm that each parameter's gradient had of late: the root of its bias-corrected second moments' sum. */
  async recentGradientNorms(): Promise<Map<string, number>> {
    const recent = new Map<string, number>();
    const moments = this.moments();
    try {
      for (const { key, second } of moments) {
        let sum = 0;
        for (const value of await second.data()) sum += value;
        recent.set(key, Math.sqrt(sum / (1 - this.options.beta2 ** this.step)));
      }
      return recent;
    } finally {
      for (const { first, second } of moments) for (const view of [first, second]) view.dispose();
    }
  }

  /** The moments of each parameter, as views: to be saved, or written when restored. The caller disposes them. */
  moments(): { key: string; first: Tensor; second: Tensor }[] {
    this.#expectLive('moments');
    return this.parameters.map((parameter) => {
      const at = this.#ranges.get(parameter) ?? 0;
      const { shape } = parameter.tensor;
      return withoutScope(() => ({
        key: parameter.key,
        first: this.#firstMoments.aliased(shape, at),
        second: this.#secondMoments.aliased(shape, at),
      }));
    });
  }

  /** Frees gradients and moments; the parameters stay with the model, and another optimiser may take them. */
  dispose(): void {
    this.#disposed = true;
    for (const parameter of this.parameters) if (parameter.optimiser === this) parameter.optimiser = null;
    for (const { total } of this.#sums.values()) total.dispose();
    for (const storage of [this.#flat, this.#gradients, this.#firstMoments, this.#secondMoments]) storage.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  #expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`AdamW.${operation}: the optimiser was disposed`);
  }
}

function takenParameter({ key }: Parameter): ArgumentError {
  return new ArgumentError({
    operation: 'AdamW',
    argument: `parameter ${key}`,
    expected: 'a model that nothing else trains',
    got: 'updated by another optimiser',
    hint: 'one trainer at a time: dispose the other one first, the model keeps its weights',
  });
}

function zeros(backend: Backend, size: number): Tensor {
  const made = empty(backend, [size]);
  launch(fill, { values: made }, { value: 0, count: size });
  return made;
}
