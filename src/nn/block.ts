import { inModule, scope, type FloatDType, type Tensor } from '../tensor/index.js';
import type { Linear, Norm } from './layers.js';
import type { FusedStep, Mixer, Normed, Pass, StepPass, Stream } from './mixer.js';

/** A norm and what works on its output. */
export interface Sublayer {
  /** Of the mixer among the parameters: a run that diverges names it. */
  readonly name: string;
  readonly norm: Norm;
  readonly mixer: Mixer;
}

/** One residual sublayer after another: residual ← x + residual, x ← mixer(norm(residual)). */
export class Block {
  constructor(readonly sublayers: readonly Sublayer[]) {}

  /** Whether `step` can be given an x in parts. */
  get takesParts(): boolean {
    const [first] = this.sublayers;
    return (first && fusedStep(first)) !== null;
  }

  /**
   * @param x [B,L,D], what the sublayer before added
   * @param residual [B,L,D], the stream before that; null for the first
   * @param passes one for each sublayer
   */
  forward(x: Tensor, residual: Tensor | null, passes: readonly Pass[]): Stream {
    return this.#each(x, residual, ({ name, norm, mixer }, input, stream, i) => {
      const normed = inModule('norm', () => norm.forward(input, stream));
      return { x: inModule(name, () => mixer.forward(normed.y, passes[i] ?? {})), residual: normed.residual };
    });
  }

  /**
   * One position.
   * @param x [B,D], or its parts [P,B,D], to be added up
   * @param passes one for each sublayer; their memory is updated in place
   * @param parts whether the x it returns may be in parts: a next block takes them
   */
  step(x: Tensor, residual: Tensor | null, passes: readonly StepPass[], parts: boolean): Stream {
    return this.#each(x, residual, (sublayer, input, stream, i) => {
      const pass = passes[i] as StepPass;
      const next = this.sublayers[i + 1];
      const fused = fusedStep(sublayer);
      if (fused !== null) return fused(input, stream, pass, next === undefined ? parts : fusedStep(next) !== null);
      const normed = new NormedOnce(sublayer.norm, input, stream);
      return { x: sublayer.mixer.step(normed, pass), residual: normed.residual };
    });
  }

  #each(
    x: Tensor,
    residual: Tensor | null,
    run: (sublayer: Sublayer, x: Tensor, residual: Tensor | null, i: number) => Stream,
  ): Stream {
    return scope(() => {
      let stream: { x: Tensor; residual: Tensor | null } = { x, residual };
      for (const [i, sublayer] of this.sublayers.entries()) stream = run(sublayer, stream.x, stream.residual, i);
      return stream as Stream;
    });
  }
}

const fusedStep = ({ norm, mixer }: Sublayer): FusedStep | null => mixer.fuse?.(norm) ?? null;

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
