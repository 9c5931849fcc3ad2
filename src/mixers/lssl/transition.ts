import type { Initialiser, Parameter, ParameterStore } from '../../nn/index.js';
import { add, affine, multiply, reshape, solve, split } from '../../ops/index.js';
import { diagonalOnes, perFeature, type DenseSystem } from '../../ops/lssl/gbt.js';
import { scope, sizeOf, withRecorder, type Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import type { LsslConfig, LsslMeasure } from './config.js';

type Vector = 'dl' | 'd' | 'du' | 'pl' | 'pr' | 'c' | 'b';

/** Standard deviation of the noise on d of 'legt'. With the noise T has an inverse that can be learned. */
const noise = 1e-2;

/** The n-th entry of each vector of N states. T[i,i−1] = dl[i], T[i,i+1] = du[i+1]: dl and du have N + 1, zeros at both ends. */
interface Family {
  readonly p: (n: number) => number;
  readonly dl: number;
  readonly d: (n: number, states: number, random: Random) => number;
  readonly du: number;
  readonly c: (n: number) => number;
}

const root = (n: number): number => Math.sqrt(2 * n + 1);

const families: Readonly<Record<LsslMeasure, Family>> = {
  legs: { p: root, dl: -1, d: () => 1, du: 0, c: (n) => -n / (2 * n + 1) },
  legt: { p: root, dl: -0.5, d: (n, states, random) => (n === 0 || n === states - 1 ? 0.5 : 0) + noise * random.normal(), du: 0.5, c: () => 0 },
  lagt: { p: () => 1, dl: -1, d: () => 1, du: 0, c: () => -0.5 },
};

/**
 * A and B of an LSSL, in a family of matrices that has the HiPPO matrices in it:
 *
 *     A = −diag(pl)·(T⁻¹ + diag(c))·diag(pr)      B = pl ⊙ b
 *
 * with a tridiagonal T. Keys, as in the official code: dl and du [N+1], d, pl, pr, c and b [N], or one of each for every feature, [H,…].
 * What is not learned has the same keys but pr, which is pl then, and no gradient.
 */
export class Transition {
  readonly #vectors: Readonly<Record<Vector, Parameter>>;
  readonly #config: LsslConfig;

  constructor(parameters: ParameterStore, config: LsslConfig) {
    const { dModel, dState, measure, learn } = config;
    const family = families[measure];
    const vector = (name: string, length: number, value: (n: number, random: Random) => number) => {
      const shape = learn === 2 ? [dModel, length] : [length];
      const initialiser: Initialiser = (of, random) => Float32Array.from({ length: sizeOf(of) }, (_, i) => value(i % length, random));
      return parameters.get(name, { shape, initialiser, decay: false });
    };
    const beside = (value: number) => (n: number) => (n === 0 || n === dState ? 0 : value);
    const pl = vector('pl', dState, family.p);
    this.#config = config;
    this.#vectors = {
      pl,
      pr: learn === 0 ? pl : vector('pr', dState, family.p),
      dl: vector('dl', dState + 1, beside(family.dl)),
      d: vector('d', dState, (n, random) => family.d(n, dState, random)),
      du: vector('du', dState + 1, beside(family.du)),
      c: vector('c', dState, family.c),
      b: vector('b', dState, () => 1),
    };
  }

  /** A [S,N,N] and B [S,N], where S is H or, of one for all features, 1. Recorded where they are learned. */
  system(): DenseSystem {
    const made = () => scope(() => this.#made());
    return this.#config.learn === 0 ? withRecorder(null, made) : made();
  }

  #made(): DenseSystem {
    const { dState: size, learn, dModel } = this.#config;
    const sets = learn === 2 ? dModel : 1;
    const of = (name: Vector) => reshape(this.#vectors[name].tensor, [sets, this.#vectors[name].tensor.columns]);
    /** A matrix with a vector in one of its diagonals, [S·N,N]. @param values one a row, [S,N] */
    const diagonal = (values: Tensor, above = 0) => {
      const ones = perFeature(reshape(diagonalOnes(values, size, above), [1, size * size]), sets);
      return multiply(reshape(ones, [sets * size, size]), reshape(values, [sets * size, 1]));
    };
    const [below] = split(of('dl'), [size, 1]) as [Tensor];
    const [, above] = split(of('du'), [1, size]) as [Tensor, Tensor];
    const T = add(add(diagonal(below, -1), diagonal(of('d'))), diagonal(above, 1));
    const [pl, pr] = [of('pl'), of('pr')];
    const square = [sets, size, size];
    const inner = add(solve(reshape(T, square), reshape(diagonal(pr), square)), reshape(diagonal(multiply(of('c'), pr)), square));
    const A = affine(multiply(reshape(inner, [sets * size, size]), reshape(pl, [sets * size, 1])), -1);
    return { A: reshape(A, square), B: multiply(pl, of('b')) };
  }
}
