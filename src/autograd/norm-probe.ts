import { globalNorm } from '../ops/adamw/adamw.js';
import { cast } from '../ops/view/view.js';
import { recomputation } from './recompute.js';
import { modulePath, scope, withoutScope, withRecorder, withWrappedRecorder, type RecordedOperation, type Recorder, type Tensor } from '../tensor/index.js';

/** A tensor in the course of a forward and backward pass. */
export interface Sighting {
  /** The part of the model, as `layers.3.mixer`; empty outside of all. */
  readonly module: string;
  readonly operation: string;
  /** 'given': the operation reads it and no recorded operation made it, as a parameter. Else which pass made it. */
  readonly made: 'given' | 'forward' | 'backward';
  /** `u`, `output`, `gradient of u`: by the name that the operation or the caller gives it. */
  readonly tensor: string;
  /** Its Euclidean norm: NaN or Infinity where a value is. */
  readonly norm: number;
}

/** Operations that show the same values under another shape: what is named keeps its name, and there is nothing to see. */
const views: ReadonlySet<string> = new Set(['reshape', 'contiguous']);

/**
 * Watches a forward and backward pass for diagnosis: takes the norm of every float tensor that an operation reads, makes, or
 * makes on the way back, in the order in which the stream computes them.
 */
export class NormProbe {
  readonly #names: Map<number, string>;
  readonly #seen = new Set<number>();
  readonly #sightings: (Omit<Sighting, 'norm'> & { readonly norm: Tensor })[] = [];

  /** @param names of tensors that the caller knows, as parameters */
  constructor(names: Iterable<readonly [Tensor, string]>) {
    this.#names = new Map([...names].map(([{ id }, name]) => [id, name]));
  }

  /** Runs `body`, whose operations a tape records, and watches them, there and on the way back. */
  watch<T>(body: () => T): T {
    return withWrappedRecorder((outer) => this.#around(outer), body);
  }

  /** What was seen so far. */
  async sightings(): Promise<Sighting[]> {
    const read: Sighting[] = [];
    for (const { norm, ...where } of this.#sightings) read.push({ ...where, norm: await norm.item() });
    return read;
  }

  /** Frees what the probe holds. */
  dispose(): void {
    for (const { norm } of this.#sightings.splice(0)) norm.dispose();
  }

  #around(outer: Recorder): Recorder {
    return { record: (operation) => this.#record(outer, operation), around: (inner) => this.#around(outer.around?.(inner) ?? inner) };
  }

  #record<S extends Record<string, Tensor | null>>(outer: Recorder, recorded: RecordedOperation<S>): void {
    const { operation, inputs, outputs, saved } = recorded;
    // What is within is seen by itself.
    if (operation === recomputation) {
      outer.record(recorded);
      return;
    }
    const [input, output] = [inputs[0], outputs[0]];
    if (views.has(operation) && input && output) {
      const name = this.#names.get(input.id);
      if (name !== undefined) this.#names.set(output.id, name);
      if (this.#seen.has(input.id)) this.#seen.add(output.id);
      outer.record(recorded);
      return;
    }
    const module = modulePath();
    const own = new Map(Object.entries(saved).flatMap(([name, tensor]) => (tensor ? [[tensor.id, name] as const] : [])));
    const nameOf = ({ id }: Tensor, otherwise: string) => this.#names.get(id) ?? own.get(id) ?? otherwise;
    const see = (made: Sighting['made'], name: string, tensor: Tensor) => {
      if ((tensor.dtype !== 'f32' && tensor.dtype !== 'f16') || tensor.size === 0) return;
      const norm = withoutScope(() => withRecorder(null, () => scope(() => globalNorm(tensor.dtype === 'f16' ? cast(tensor, 'f32') : tensor))));
      this.#sightings.push({ module, operation, made, tensor: name, norm });
    };
    const inputNames = inputs.map((tensor, i) => (tensor ? nameOf(tensor, `input ${i + 1}`) : ''));
    const outputNames = outputs.map((tensor, i) => nameOf(tensor, outputs.length === 1 ? 'output' : `output ${i + 1}`));
    inputs.forEach((tensor, i) => {
      if (!tensor || this.#seen.has(tensor.id)) return;
      this.#seen.add(tensor.id);
      see('given', inputNames[i] as string, tensor);
    });
    outputs.forEach((tensor, i) => {
      this.#seen.add(tensor.id);
      see('forward', outputNames[i] as string, tensor);
    });
    outer.record({
      ...recorded,
      backward: (context) => {
        // Each was seen when it was made, but for the sum of several: where many operations read one output.
        context.cotangents.forEach((cotangent, i) => {
          if (cotangent) see('backward', `gradient of ${outputNames[i] as string}`, cotangent);
        });
        const given = recorded.backward(context);
        inputNames.forEach((name, i) => {
          const sum = context.sums[i];
          const gradient = given[i] ?? (sum?.empty === false ? sum.total : null);
          if (gradient) see('backward', `gradient of ${name}`, gradient);
        });
        return given;
      },
    });
  }
}
