import { scope, type Tensor } from '../../tensor/index.js';
import { complexMultiply, complexPhi, complexReciprocal } from '../complex/complex.js';
import { add, affine, divide, multiply, reciprocal, subtract } from '../elementwise/elementwise.js';
import { sum } from '../reduction/reduction.js';
import type { StateDiscretization } from '../vandermonde/vandermonde.js';
import { concatenate, reshape, split } from '../view/view.js';

/** A continuous linear system x′ = A·x + B·u of each feature with its step Δ, complex tensors [H,N,2] f32. */
export interface ContinuousSystem {
  /** Δ·Λ: A is diagonal, or Λ − P·P* with `P`. */
  readonly a: Tensor;
  /** Δ·B */
  readonly b: Tensor;
  /** √(Δ/2)·P, one for each rank, at most 2; none: A is diagonal. */
  readonly p: readonly Tensor[];
  /** 'bilinear' where A is more than diagonal. */
  readonly discretization: StateDiscretization;
}

/** What `ltiScan` is told of a system, but for its outputs. */
export interface DiscreteSystem {
  readonly change: Tensor;
  readonly input: Tensor;
  readonly left: Tensor | null;
  readonly right: Tensor | null;
}

/**
 * Makes a system discrete. With δ = 1/(1 − a/2), e = δ·p and f = δ·p̄, the bilinear rule gives of Λ − P·P*
 *
 *     Ā·s = s + δ·a·s − 2·e·M·2·Re(f·s)      B̄ = δ·b − e·M·2·Re(f·b)      M = (1 + 2·Re(f·p))⁻¹
 *
 * which takes linear time, since M has the size of the rank.
 */
export function discreteSystem({ a, b, p, discretization }: ContinuousSystem): DiscreteSystem {
  return scope(() => {
    const gain = discretization === 'zoh' ? complexPhi(a) : complexReciprocal(affine(a, -0.5), { shift: 1 });
    const [change, input] = [complexMultiply(a, gain), complexMultiply(b, gain)];
    if (p.length === 0) return { change, input, left: null, right: null };
    const e = p.map((one) => complexMultiply(one, gain));
    const f = p.map((one) => complexMultiply(gain, one, { conjugate: true }));
    const inverse = inverseOf(f.map((row) => p.map((column) => twiceReal(row, column))));
    // Column j of −2·e·M.
    const left = p.map((_, j) => affine(total(e.map((one, i) => byFeature(one, inverse[i]?.[j] as Tensor))), -2));
    const lowRank = total(left.map((one, j) => byFeature(one, twiceReal(f[j] as Tensor, b))));
    return { change, input: add(input, affine(lowRank, 0.5)), left: stacked(left), right: stacked(f) };
  });
}

/** The system whose Ā is the transpose: of outputs C it makes C·Ā. */
export const transposedSystem = ({ change, input, left, right }: DiscreteSystem): DiscreteSystem => ({ change, input, left: right, right: left });

/** Tensors of one shape under one another: [count, ...shape]. */
export function stacked(parts: readonly Tensor[]): Tensor {
  return scope(() => {
    const [first] = parts as readonly [Tensor];
    return reshape(concatenate(parts.map((part) => reshape(part, [1, part.size]))), [parts.length, ...first.shape]);
  });
}

/** The parts [...shape] of [count, ...shape]. */
export function unstacked(whole: Tensor): Tensor[] {
  return scope(() => {
    const [count = 0, ...shape] = whole.shape;
    const size = whole.size / count;
    return split(reshape(whole, [1, whole.size]), new Array<number>(count).fill(size)).map((part) => reshape(part, shape));
  });
}

/** The sum of tensors of one shape. */
export const total = (parts: readonly Tensor[]): Tensor => parts.reduce((left, right) => add(left, right));

/** x [H,N,2] times a real number of each feature [H]. */
export const byFeature = (x: Tensor, factor: Tensor): Tensor =>
  scope(() => {
    const [features = 0] = x.shape;
    return reshape(multiply(reshape(x, [features, x.size / features]), reshape(factor, [features, 1])), x.shape);
  });

/** 2·Re Σ_n x·y of [H,N,2]: [H] */
export const twiceReal = (x: Tensor, y: Tensor): Tensor =>
  scope(() => {
    const [re] = split(complexMultiply(x, y), [1, 1]) as [Tensor, Tensor];
    return affine(sum(reshape(re, x.shape.slice(0, -1)), -1), 2);
  });

/** (1 + G)⁻¹ of real matrices of 1 or 2 rows, entries [H]. */
function inverseOf(G: readonly (readonly Tensor[])[]): Tensor[][] {
  const [[g11, g12], [g21, g22] = []] = G as [[Tensor, Tensor?], [Tensor, Tensor]?];
  const first = affine(g11, 1, 1);
  if (g12 === undefined || g21 === undefined || g22 === undefined) return [[reciprocal(first)]];
  const second = affine(g22, 1, 1);
  const determinant = subtract(multiply(first, second), multiply(g12, g21));
  const entry = (numerator: Tensor, sign: number) => affine(divide(numerator, determinant), sign);
  return [
    [entry(second, 1), entry(g12, -1)],
    [entry(g21, -1), entry(first, 1)],
  ];
}
