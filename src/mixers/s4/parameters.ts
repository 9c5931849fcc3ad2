import { constant, normal, type Initialiser, type Memory, type Parameter, type ParameterStore } from '../../nn/index.js';
import { add, affine, concatenate, exp, multiply, reshape, softplus, split, sqrt, zeros } from '../../ops/index.js';
import type { Complex } from '../../ops/complex/numbers.js';
import { dssKernel, doubledOutput, s4Kernel, s4dKernel, trueOutput, truncatedOutput } from '../../ops/s4/kernel.js';
import { discreteSystem, unstacked, type ContinuousSystem, type DiscreteSystem } from '../../ops/s4/system.js';
import { scope, type Tensor } from '../../tensor/index.js';
import type { S4Config } from './config.js';
import { clippedB, diagonalStates, dplrHippo } from './hippo.js';

/** The least −Re A and −Im A to start with: A is their exponential, or they themselves. */
const least = 1e-4;

/** A state as checkpoints have it: A's parts, B, and P of each rank, [N/2] each. */
interface Start {
  readonly A: readonly Complex[];
  readonly B: readonly Complex[];
  readonly P: readonly (readonly Complex[])[];
}

function startOf({ init, dState }: S4Config): Start {
  const [kind, name] = init.startsWith('diag-') ? (['diag', init.slice(5)] as const) : (['dplr', init] as const);
  if (kind === 'diag') return { ...diagonalStates(name as Parameters<typeof diagonalStates>[0], dState), P: [] };
  const { lambda, B, P } = dplrHippo(name as Parameters<typeof dplrHippo>[0], dState);
  return { A: lambda, B: clippedB(B), P };
}

/** Values of one state repeated for each of the sets. */
const repeated = (values: () => readonly number[]): Initialiser => (shape) => {
  const one = values();
  return Float32Array.from({ length: shape.reduce((product, extent) => product * extent, 1) }, (_, i) => one[i % one.length] ?? NaN);
};

/**
 * The state space of an S4 or S4D layer, under the names of the official code: C [C,H,N/2,2], B [1,S,N/2,2], A_real and A_imag [S,N/2],
 * inv_dt [H,1] or [H,N/2], and P [R,S,N/2,2] where A is more than diagonal. S sets of A, B and P serve H features: feature h has set
 * h mod S. Real states (`real`) have no imaginary parts and N in N/2's place.
 *
 * With a `kernelLength`, C is C̃ = C·(1 − Ā^length), as official checkpoints have it once their l_kernel is set, and gradients hold C̃
 * fixed; else it is C itself.
 */
export class StateSpace {
  readonly C: Parameter;
  readonly B: Parameter;
  readonly aReal: Parameter;
  readonly aImag: Parameter | null;
  readonly invDt: Parameter;
  readonly P: Parameter | null;
  readonly config: S4Config;
  readonly #states: number;

  constructor(parameters: ParameterStore, config: S4Config) {
    const { dModel, dState, channels, bidirectional, sets, rank, real, dtTransform, dtMin, dtMax, dtTied } = config;
    const states = real ? dState : dState / 2;
    const parts = real ? [] : [2];
    this.config = config;
    this.#states = states;
    let start: Start | undefined;
    const from = (values: (start: Start) => readonly number[]) => repeated(() => values((start ??= startOf(config))));
    // The published recipe spares the dynamics weight decay.
    const small = { decay: false } as const;
    // Real states of the official code start as those of 'real' of twice as many.
    const realParts = (start_: Start) => (real ? Array.from({ length: states }, (_, n) => n + 1) : start_.A.map(([re]) => -re));
    const outputs = (bidirectional ? 2 : 1) * channels;
    this.C = parameters.get('C', { shape: [outputs, dModel, states, ...parts], initialiser: normal(real ? 1 : Math.SQRT1_2) });
    this.B = parameters.get('B', { shape: [1, sets, states, ...parts], initialiser: real ? constant(1) : from(({ B }) => B.flat()), ...small });
    this.invDt = parameters.get('inv_dt', {
      shape: [dModel, dtTied ? 1 : states],
      initialiser: (shape, random) =>
        Float32Array.from({ length: shape.reduce((product, extent) => product * extent, 1) }, () => {
          const log = Math.log(dtMin) + random.uniform() * (Math.log(dtMax) - Math.log(dtMin));
          return dtTransform === 'exp' ? log : Math.log(Math.expm1(Math.exp(log)));
        }),
      ...small,
    });
    this.aReal = parameters.get('A_real', { shape: [sets, states], initialiser: from((one) => realParts(one).map((value) => Math.log(Math.max(least, value)))), ...small });
    this.aImag = real ? null : parameters.get('A_imag', { shape: [sets, states], initialiser: from(({ A }) => A.map(([, im]) => Math.max(least, -im))), ...small });
    this.P = rank === 0 ? null : parameters.get('P', { shape: [rank, sets, states, 2], initialiser: from(({ P }) => P.flat(2)), ...small });
  }

  /** The system with its steps. @param rate how much longer a step is than in training */
  system(rate = 1): ContinuousSystem {
    return scope(() => {
      const { dModel } = this.config;
      const [step, states] = [this.#steps(rate), this.#states];
      const a = this.#rates(step);
      const b = this.#times(this.#complex(this.B.tensor, [dModel, states, 2]), step);
      if (this.P === null) return { a, b, p: [], discretization: this.config.discretization };
      const root = sqrt(affine(step, 0.5));
      const p = unstacked(this.P.tensor).map((one) => this.#times(this.#complex(one, [dModel, states, 2]), root));
      return { a, b, p, discretization: 'bilinear' as const };
    });
  }

  /** C as complex numbers, [C,H,N/2,2]: C̃ with a `kernelLength`. */
  outputs(): Tensor {
    const { dModel } = this.config;
    const { tensor } = this.C;
    return tensor.rank === 4 ? tensor.retain() : withZeros(tensor, [tensor.shape[0] ?? 0, dModel, this.#states, 2]);
  }

  /** C itself, for the recurrence; not recorded where there is a `kernelLength`. */
  trueOutputs(): Tensor {
    const { kernelLength } = this.config;
    // C̃ belongs to the steps of training.
    return scope(() => (kernelLength === 0 ? this.outputs() : trueOutput(this.outputs(), this.system(), kernelLength)));
  }

  /** What `ltiScan` runs, but for D. */
  discrete(rate = 1): DiscreteSystem & { readonly C: Tensor } {
    return scope(() => ({ ...discreteSystem(this.system(rate)), C: this.trueOutputs() }));
  }

  /** The convolution kernels, [C,H,L]. */
  kernel(length: number, rate = 1): Tensor {
    return scope(() => {
      const { discretization, kernelLength, dss } = this.config;
      const system = this.system(rate);
      const C = this.outputs();
      if (dss) {
        const { dModel } = this.config;
        const A = this.#rates(null);
        return dssKernel(C, { A, a: system.a, B: this.#complex(this.B.tensor, [dModel, this.#states, 2]) }, length);
      }
      if (this.P === null) return s4dKernel(C, { ...system, discretization }, length);
      if (kernelLength === 0) return s4Kernel(truncatedOutput(C, system, length), system, length);
      let known = kernelLength;
      let outputs = C;
      // C̃ and its length grow together; both count steps of training.
      for (; Math.round(known / rate) < length; known *= 2) outputs = doubledOutput(outputs, this.system(), known);
      const whole = Math.round(known / rate);
      const K = s4Kernel(outputs, system, whole);
      return whole === length ? K : (split(K, [length, whole - length])[0] as Tensor);
    });
  }

  /** What steps need and that follows from the parameters alone. */
  constants(rate = 1): Memory {
    return scope(() => {
      const { change, input, left, right, C } = this.discrete(rate);
      return { change, input, C, ...(left !== null && right !== null && { left, right }) };
    });
  }

  /** Δ, [H,1] or [H,N/2] */
  #steps(rate: number): Tensor {
    const step = this.config.dtTransform === 'exp' ? exp(this.invDt.tensor) : softplus(this.invDt.tensor);
    return rate === 1 ? step : affine(step, rate);
  }

  /** A times Δ, or A itself, [H,N/2,2]. */
  #rates(step: Tensor | null): Tensor {
    const { dModel } = this.config;
    const states = this.#states;
    const wide = (tensor: Tensor) => {
      const all = this.#tiled(tensor, [dModel, states]);
      return reshape(step === null ? all : multiply(all, step), [dModel, states, 1]);
    };
    const re = wide(affine(exp(this.aReal.tensor), -1));
    return concatenate([re, this.aImag === null ? zeros(re.backend, re.shape) : wide(affine(this.aImag.tensor, -1))]);
  }

  /** Repeats sets so that there is one for each feature. */
  #tiled(sets: Tensor, shape: readonly number[]): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    if (sets.size === size) return reshape(sets, shape);
    return reshape(add(zeros(sets.backend, [size / sets.size, sets.size]), reshape(sets, [sets.size])), shape);
  }

  #complex(sets: Tensor, shape: readonly number[]): Tensor {
    return this.config.real ? withZeros(this.#tiled(sets, shape.slice(0, -1)), shape) : this.#tiled(sets, shape);
  }

  /** x [H,N/2,2] times a number of each feature, or of each state. */
  #times(x: Tensor, factor: Tensor): Tensor {
    return reshape(multiply(reshape(x, [factor.size, x.size / factor.size]), reshape(factor, [factor.size, 1])), x.shape);
  }
}

/** Real numbers as complex ones. */
function withZeros(x: Tensor, shape: readonly number[]): Tensor {
  return scope(() => {
    const re = reshape(x, [...shape.slice(0, -1), 1]);
    return concatenate([re, zeros(re.backend, re.shape)]);
  });
}
