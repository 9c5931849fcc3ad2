import { add } from '../ops/index.js';
import { inModule, scope, type FloatDType, type Tensor } from '../tensor/index.js';
import type { Linear, Norm } from './layers.js';
import type { FusedStep, Mixer, Normed, Pass, SequenceMixer, StepPass, Stream } from './mixer.js';

/** A norm and what works on its output. */
export interface Sublayer<M extends SequenceMixer = Mixer> {
  /** Of the mixer among the parameters: a run that diverges names it. */
  readonly name: string;
  readonly norm: Norm;
  readonly mixer: M;
}

/** Sublayers that all read the same stream; what they give is added up. One, in most blocks. */
export type Parallel<M extends SequenceMixer = Mixer> = readonly [Sublayer<M>, ...Sublayer<M>[]];

/**
 * One residual stage after another: residual ← x + residual, x ← Σ mixer(norm(residual)) over the stage's sublayers. An encoder's block, whose
 * mixers take whole sequences alone, has no steps.
 */
export class Block<M extends SequenceMixer = Mixer> {
  readonly stages: readonly Parallel<M>[];
  /** Of all stages, in order: passes are in this order. */
  readonly sublayers: readonly Sublayer<M>[];

  constructor(stages: readonly (Sublayer<M> | Parallel<M>)[]) {
    this.stages = stages.map((stage): Parallel<M> => ('mixer' in stage ? [stage] : stage));
    this.sublayers = this.stages.flat();
  }

  /**
   * @param x [B,L,D], what the sublayer before added
   * @param residual [B,L,D], the stream before that; null for the first
   * @param passes one for each sublayer
   */
  forward(x: Tensor, residual: Tensor | null, passes: readonly Pass[]): Stream {
    return this.#each(x, residual, passes, (stage, input, stream, own) => {
      let sum: Tensor<FloatDType> | null = null;
      let [from, before] = [input, stream];
      for (const [i, { name, norm, mixer }] of stage.entries()) {
        const normed = inModule('norm', () => norm.forward(from, before));
        const y = inModule(name, () => mixer.forward(normed.y, own[i] ?? {}));
        sum = sum === null ? y : add(sum, y);
        [from, before] = [normed.residual, null];
      }
      return { x: sum as Tensor<FloatDType>, residual: from as Tensor<FloatDType> };
    });
  }

  /** The form of parts in which `step` can be given x; null: none. */
  parts(this: Block): FusedStep['parts'] | null {
    return fusedStep(this.stages[0])?.parts ?? null;
  }

  /**
   * One position.
   * @param x [B,D], or its parts [P,B,…], to be added up
   * @param passes one for each sublayer; their memory is updated in place
   * @param parts the form of parts that the next block takes x in; null: none
   */
  step(this: Block, x: Tensor, residual: Tensor | null, passes: readonly StepPass[], parts: FusedStep['parts'] | null): Stream {
    return this.#each(x, residual, passes, (stage, input, stream, own, next) => {
      const fused = fusedStep(stage);
      if (fused !== null) {
        const taken = next === undefined ? parts : fusedStep(next)?.parts;
        return fused.run(input, stream, own[0] as StepPass, taken === fused.parts);
      }
      let sum: Tensor<FloatDType> | null = null;
      let [from, before] = [input, stream];
      for (const [i, { norm, mixer }] of stage.entries()) {
        const normed = new NormedOnce(norm, from, before);
        const y = mixer.step(normed, own[i] as StepPass);
        sum = sum === null ? y : add(sum, y);
        [from, before] = [normed.residual, null];
      }
      return { x: sum as Tensor<FloatDType>, residual: from as Tensor<FloatDType> };
    });
  }

  #each<P>(
    x: Tensor,
    residual: Tensor | null,
    passes: readonly P[],
    run: (stage: Parallel<M>, x: Tensor, residual: Tensor | null, passes: readonly P[], next: Parallel<M> | undefined) => Stream,
  ): Stream {
    return scope(() => {
      let stream: { x: Tensor; residual: Tensor | null } = { x, residual };
      let first = 0;
      for (const [i, stage] of this.stages.entries()) {
        stream = run(stage, stream.x, stream.residual, passes.slice(first, first + stage.length), this.stages[i + 1]);
        first += stage.length;
      }
      return stream as Stream;
    });
  }
}

/** A stage's fused step. A stage of several sublayers has none. */
function fusedStep(stage: Parallel | undefined): FusedStep | null {
  if (stage?.length !== 1) return null;
  const [{ norm, mixer }] = stage;
  return mixer.fuse?.(norm) ?? null;
}

/** A norm that is worked out when it is asked for: together with the first projection, or by itself. */
class NormedOnce implements Normed {
  readonly #norm: Norm;
  readonly #x: Tensor;
  readonly #before: Tensor | null;
  #value: Tensor<FloatDType> | null = null;
  #residual: Tensor<FloatDType> | null = null;

  constructor(norm: Norm, x: Tensor, before: Tensor | null) {
    this.#norm = norm;
    this.#x = x;
    this.#before = before;
  }

  /** x + the stream before it. */
  get residual(): Tensor<FloatDType> {
    if (this.#residual === null) this.value();
    return this.#residual as Tensor<FloatDType>;
  }

  value(): Tensor<FloatDType> {
    if (this.#value === null) {
      const { y, residual } = this.#residual === null ? this.#norm.forward(this.#x, this.#before) : this.#norm.forward(this.#residual, null);
      this.#value = y;
      this.#residual ??= residual;
    }
    return this.#value;
  }

  project(linear: Linear): Tensor<FloatDType> {
    if (this.#residual !== null) return linear.forward(this.value());
    const { y, residual } = this.#norm.project(this.#x, this.#before, linear);
    this.#residual = residual;
    return y;
  }
}
