/** HiPPO matrices and the states that S4 and S4D start with, in float64. */
import type { Complex } from '../../ops/complex/numbers.js';
import { skewEigenvectors } from './eigenvectors.js';

/** Families of HiPPO matrices: of Legendre polynomials over all the past ('legs') or a window ('legt'), of Fourier's series over a window ('fout'). */
export const hippoNames = ['legs', 'legt', 'fout'] as const;
export type HippoName = (typeof hippoNames)[number];

/** Diagonal matrices to start from. */
export const diagonalNames = ['lin', 'inv', 'inv2', 'quad', 'legs', 'real'] as const;
export type DiagonalName = (typeof diagonalNames)[number];

/** A [N][N], B [N], and P [R][N] with A + PᵀP normal: a constant plus a skew-symmetric matrix. */
export interface Hippo {
  readonly A: readonly (readonly number[])[];
  readonly B: readonly number[];
  readonly P: readonly (readonly number[])[];
}

const numbers = (count: number, value: (n: number) => number): number[] => Array.from({ length: count }, (_, n) => value(n));
const square = (size: number, value: (n: number, k: number) => number): number[][] => Array.from({ length: size }, (_, n) => numbers(size, (k) => value(n, k)));

/**
 * A HiPPO matrix of N states, N even.
 * Source: Gu et al. 2023, "How to Train Your HiPPO"; the scale of 'legt' is the official code's, half of the paper's.
 */
export function hippo(name: HippoName, states: number): Hippo {
  const root = (n: number) => Math.sqrt(2 * n + 1);
  switch (name) {
    case 'legs':
      return {
        A: square(states, (n, k) => (n > k ? -root(n) * root(k) : n === k ? -(n + 1) : 0)),
        B: numbers(states, root),
        P: [numbers(states, (n) => Math.sqrt(n + 0.5))],
      };
    case 'legt':
      return {
        A: square(states, (n, k) => -0.5 * root(n) * root(k) * (n >= k || (n - k) % 2 === 0 ? 1 : -1)),
        B: numbers(states, (n) => 0.5 * root(n)),
        P: [1, 0].map((parity) => numbers(states, (n) => (n % 2 === parity ? Math.sqrt(n + 0.5) : 0))),
      };
    case 'fout': {
      const B = numbers(states, (n) => (n === 0 ? 1 : n % 2 === 0 ? Math.SQRT2 : 0));
      const rotation = (n: number, k: number) => (n % 2 === 0 && k === n + 1 ? -Math.PI * n / 2 : n % 2 === 1 && k === n - 1 ? (Math.PI * k) / 2 : 0);
      return { A: square(states, (n, k) => rotation(n, k) - (B[n] ?? NaN) * (B[k] ?? NaN)), B, P: [B] };
    }
  }
}

/** A diagonal plus low rank: A = V·(Λ − P·P*)·V*, in the basis of V. Of pairs of conjugates, the half with the lower imaginary part. */
export interface Dplr {
  /** [N/2] */
  readonly lambda: readonly Complex[];
  /** [N/2]; its imaginary part is clipped by those who start from it */
  readonly B: readonly Complex[];
  /** [R][N/2] */
  readonly P: readonly (readonly Complex[])[];
  /** [N/2] columns of [N]; their phases are arbitrary */
  readonly V: readonly (readonly Complex[])[];
}

/** Eigenvalues closer to 0 than this are those that are 0 but for rounding. */
const nothing = 1e-9;

/** A HiPPO matrix as a diagonal plus low rank. N even. */
export function dplrHippo(name: HippoName, states: number): Dplr {
  const { A, B, P } = hippo(name, states);
  const normal = square(states, (n, k) => (A[n]?.[k] ?? NaN) + P.reduce((sum, row) => sum + (row[n] ?? NaN) * (row[k] ?? NaN), 0));
  const shift = normal.reduce((sum, row, n) => sum + (row[n] ?? NaN), 0) / states;
  const skew = square(states, (n, k) => ((normal[n]?.[k] ?? NaN) - (normal[k]?.[n] ?? NaN)) / 2);
  const half = skewEigenvectors(skew).slice(0, states / 2);
  const V = half.map(({ value, re, im }): Complex[] => {
    // Only 'fout' has it, twice, and any two vectors of its plane would do: these are a pair of conjugates.
    if (Math.abs(value) < nothing) return numbers(states, (n) => n).map((n) => [n === 0 ? Math.SQRT1_2 : 0, n === 1 ? Math.SQRT1_2 : 0]);
    return Array.from(re, (x, n) => [x, im[n] ?? NaN]);
  });
  // V*·x
  const within = (x: readonly number[]): Complex[] =>
    V.map((column) => column.reduce<Complex>(([re, im], [vr, vi], n) => [re + vr * (x[n] ?? NaN), im - vi * (x[n] ?? NaN)], [0, 0]));
  return { lambda: half.map(({ value }) => [shift, Math.abs(value) < nothing ? 0 : value]), B: within(B), P: P.map(within), V };
}

/** The imaginary parts that B starts with, at most. */
export const largestImaginaryB = 2;

export const clippedB = (B: readonly Complex[]): Complex[] =>
  B.map(([re, im]) => [re, Math.min(largestImaginaryB, Math.max(-largestImaginaryB, im))]);

/**
 * A diagonal matrix to start from: A and B, [N/2] of pairs of conjugates.
 * Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", section 4.
 */
export function diagonalStates(name: DiagonalName, states: number): { readonly A: readonly Complex[]; readonly B: readonly Complex[] } {
  const half = states / 2;
  if (name === 'legs') {
    const { lambda, B } = dplrHippo('legs', states);
    return { A: lambda.map(([re, im]) => [re, im]), B: clippedB(B) };
  }
  const ones = numbers(half, () => 1).map((one): Complex => [one, 0]);
  if (name === 'real') return { A: numbers(half, (n) => -(n + 1)).map((re) => [re, 0]), B: ones };
  const frequency = {
    lin: (n: number) => Math.PI * n,
    inv: (n: number) => (states / Math.PI) * (states / (2 * n + 1) - 1),
    inv2: (n: number) => (states / Math.PI) * (states / (n + 1) - 1),
    quad: (n: number) => (2 * n + 1) ** 2 / Math.PI,
  }[name];
  return { A: numbers(half, frequency).map((omega) => [-0.5, -omega]), B: ones };
}
