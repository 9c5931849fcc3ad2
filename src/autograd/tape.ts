import { fill } from '../backend/memory/kernels.js';
import { accumulateInto, add } from '../ops/elementwise/elementwise.js';
import { copyInto } from '../ops/view/view.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, ShapeError } from '../util/errors.js';
import { empty, expectNumber, expectTensorList, expectTensors, formatShape, launch, sameShape, scope, withoutScope, withRecorder, type GradientSum, type FloatDType, type RecordedOperation, type Recorder, type Tensor } from '../tensor/index.js';

type Saved = Record<string, Tensor | null>;

interface TapeEntry {
  readonly operation: string;
  readonly inputs: readonly (number | null)[];
  readonly outputs: readonly number[];
  readonly saved: Saved;
  readonly backward: RecordedOperation<Saved>['backward'];
}

/**
 * Records operations on the way forward and runs their gradient rules on the way back. Only what depends on the watched
 * tensors is recorded, and only what the rules read is kept; `backward` frees it as it goes.
 */
export class Tape implements Recorder, Disposable {
  readonly #reached = new Set<number>();
  readonly #entries: TapeEntry[] = [];

  /** @param watched the tensors to differentiate by */
  constructor(watched: readonly Tensor[]) {
    expectTensorList('Tape', 'watched', watched, 'weight');
    for (const tensor of watched) this.#reached.add(tensor.id);
  }

  /** Runs `body` with this tape recording. */
  run<T>(body: () => T): T {
    return withRecorder(this, body);
  }

  record<S extends Saved>({ operation, inputs, outputs, saved, backward }: RecordedOperation<S>): void {
    const reachedInputs = inputs.map((input) => (input && this.#reached.has(input.id) ? input.id : null));
    if (reachedInputs.every((id) => id === null)) return;
    const retained = withoutScope(() =>
      Object.fromEntries(Object.entries(saved).map(([name, tensor]) => [name, tensor?.retain() ?? null])),
    );
    for (const output of outputs) this.#reached.add(output.id);
    this.#entries.push({
      operation,
      inputs: reachedInputs,
      outputs: outputs.map(({ id }) => id),
      saved: retained,
      backward: backward as TapeEntry['backward'],
    });
  }

  /**
   * Gradients of Σᵢ ⟨outputsᵢ, cotangentsᵢ⟩ by the tensors `by`; null for one that the outputs do not depend on. Ends the
   * tape.
   * @param options.into sums to add gradients to, by tensor: those gradients are not returned (null)
   * @throws ShapeError when a cotangent's shape is not its output's
   */
  backward(
    outputs: readonly Tensor[],
    cotangents: readonly Tensor[],
    by: readonly Tensor[],
    options: { into?: ReadonlyMap<Tensor, GradientSum> } = {},
  ): (Tensor<FloatDType> | null)[] {
    expectTensorList('backward', 'outputs', outputs, 'weight');
    expectTensorList('backward', 'cotangents', cotangents, 'weight', outputs[0]?.backend);
    expectTensorList('backward', 'by', by, 'weight', outputs[0]?.backend);
    const gradients = new Map<number, Tensor>();
    const into = new Map([...(options.into ?? [])].map(([tensor, sum]) => [tensor.id, sum]));
    const collect = (id: number, gradient: Tensor) => {
      const sum = into.get(id);
      if (sum !== undefined) {
        if (sum.empty) copyInto(gradient, sum.total);
        else accumulateInto(gradient, sum.total);
        sum.empty = false;
        return;
      }
      const earlier = gradients.get(id);
      if (earlier === undefined) {
        gradients.set(id, withoutScope(() => gradient.retain()));
      } else if (earlier.exclusive && earlier.dtype === gradient.dtype) {
        accumulateInto(gradient, earlier);
      } else {
        gradients.set(id, withoutScope(() => add(earlier, gradient)));
        earlier.dispose();
      }
    };
    const wanted = new Set(by.map(({ id }) => id));
    try {
      withRecorder(null, () => {
        outputs.forEach((output, i) => {
          collect(output.id, checkedCotangent(output, cotangents[i], i));
        });
        for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
          const { inputs, outputs: produced, saved, backward } = entry;
          try {
            const received = produced.map((id) => gradients.get(id) ?? null);
            if (received.some((gradient) => gradient !== null)) {
              scope(() => {
                const needed = inputs.map((id) => id !== null);
                const sums = inputs.map((id) => (id === null ? null : (into.get(id) ?? null)));
                const given = backward({ cotangents: received, saved, needed, sums });
                inputs.forEach((id, i) => {
                  const gradient = given[i];
                  if (id !== null && gradient) collect(id, gradient);
                });
              });
            }
          } finally {
            release(saved);
          }
          for (const id of produced) {
            if (wanted.has(id)) continue;
            gradients.get(id)?.dispose();
            gradients.delete(id);
          }
        }
      });
      return by.map(({ id }) => (gradients.get(id)?.retain() as Tensor<FloatDType> | undefined) ?? null);
    } finally {
      for (const gradient of gradients.values()) gradient.dispose();
      this.dispose();
    }
  }

  /** Frees what the tape holds; for a tape whose `backward` is never called. */
  dispose(): void {
    for (const { saved } of this.#entries.splice(0)) release(saved);
  }

  [disposeSymbol](): void {
    this.dispose();
  }
}

function checkedCotangent(output: Tensor, cotangent: Tensor | undefined, i: number): Tensor {
  if (cotangent !== undefined && sameShape(cotangent.shape, output.shape)) return cotangent;
  throw new ShapeError({
    operation: 'backward',
    argument: `cotangents[${i}]`,
    expected: formatShape(output.shape),
    got: cotangent === undefined ? 'missing' : formatShape(cotangent.shape),
  });
}

function release(saved: Saved): void {
  for (const tensor of Object.values(saved)) tensor?.dispose();
}

/**
 * Runs `body` and differentiates its scalar result.
 * @param by tensors to differentiate by
 * @param body makes a tensor of one element; everything it makes besides is freed
 * @param options.into see `Tape.backward`
 * @param options.scale factor on the gradients, as for accumulation over micro-batches; default 1
 * @returns the value and a gradient for each of `by`; null where the value does not depend on it
 * @throws ArgumentError when the result is not one element, or the scale no finite number
 */
export function valueAndGradients(
  by: readonly Tensor[],
  body: () => Tensor,
  options: { into?: ReadonlyMap<Tensor, GradientSum>; scale?: number } = {},
): { value: Tensor<FloatDType>; gradients: (Tensor<FloatDType> | null)[] } {
  const { into, scale = 1 } = options;
  expectNumber('valueAndGradients', 'scale', scale, Number.isFinite, 'a finite number');
  expectTensorList('valueAndGradients', 'by', by, 'weight');
  return scope(() => {
    const tape = new Tape(by);
    try {
      const value = tape.run(body) as Tensor<FloatDType>;
      expectTensors('valueAndGradients', { 'result of body': [value, 'float'] });
      if (value.size !== 1) {
        throw new ArgumentError({
          operation: 'valueAndGradients',
          argument: 'result of body',
          expected: 'one element',
          got: formatShape(value.shape),
          hint: 'sum or average it',
        });
      }
      const seed = empty(value.backend, value.shape);
      launch(fill, { values: seed }, { value: scale, count: 1 });
      return { value, gradients: tape.backward([value], [seed], by, into === undefined ? {} : { into }) };
    } finally {
      tape.dispose();
    }
  });
}
