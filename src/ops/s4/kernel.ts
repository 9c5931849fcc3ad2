import { record, scope, tensor, withRecorder, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import { cauchy, cauchyTransposed } from '../cauchy/cauchy.js';
import { complexMultiply, complexPhi, complexReciprocal } from '../complex/complex.js';
import { zeros } from '../create.js';
import { add, affine, multiply, subtract } from '../elementwise/elementwise.js';
import { irfft } from '../fft/real-fft.js';
import { ltiScan } from '../lti-scan/lti-scan.js';
import { vandermonde } from '../vandermonde/vandermonde.js';
import { reshape } from '../view/view.js';
import { byFeature, discreteSystem, stacked, total, transposedSystem, twiceReal, unstacked, type ContinuousSystem } from './system.js';

/**
 * The convolution kernel of diagonal systems: K[c,h,l] = 2·Re Σ_n C·B̄·Āˡ.
 * @param C complex, [C,H,N,2] f32
 * @returns [C,H,L]
 */
export function s4dKernel(C: Tensor, system: ContinuousSystem, length: number): Tensor<'f32'> {
  return scope(() => {
    const { a, discretization } = system;
    return vandermonde(affine(complexMultiply(C, discreteSystem(system).input), 2), a, length, { discretization });
  });
}

/**
 * The kernel of DSS, whose states are normed over the length as by a softmax: K = Re Σ_n C·B·(e^{ΔA} − 1)/((e^{LΔA} − 1)·A)·e^{lΔA}, with
 * 1/x for x̄/(|x|² + 10⁻⁷).
 * @param C complex, [C,H,N,2] f32
 * @param system.A complex, [H,N,2], real parts not above 0 @param system.a Δ·A @param system.B without Δ
 * @returns [C,H,L]
 *
 * Source: Gupta, Gu & Berant 2022, "Diagonal State Spaces are as Effective as Structured State Spaces", as the official S4 code has it.
 */
export function dssKernel(C: Tensor, { A, a, B }: { readonly A: Tensor; readonly a: Tensor; readonly B: Tensor }, length: number): Tensor<'f32'> {
  return scope(() => {
    const whole = affine(a, length);
    const above = complexMultiply(a, complexPhi(a));
    const below = complexReciprocal(complexMultiply(complexMultiply(whole, complexPhi(whole)), A), { epsilon: 1e-7 });
    return vandermonde(complexMultiply(C, complexMultiply(B, complexMultiply(above, below))), a, length);
  });
}

/** Rows of C, and for each rank the row p·C… that both ways through the resolvent share. */
function products(C: Tensor, { a, p }: ContinuousSystem, length: number): Tensor[][] {
  const rows = unstacked(C);
  // p̄ᵢ·pⱼ and pⱼ·C, times 1 + ω.
  const values = [...p.flatMap((left) => p.map((right) => complexMultiply(right, left, { conjugate: true }))), ...rows.flatMap((row) => p.map((one) => complexMultiply(row, one)))];
  const sums = unstacked(cauchy(stacked(values), a, length, { factor: 'cosine' }));
  const rank = p.length;
  return Array.from({ length: sums.length / rank }, (_, i) => sums.slice(i * rank, (i + 1) * rank));
}

/** Rows of outputs times (1 + G)⁻¹, complex. @param rows [...][R] of [H,K,2] @param G [R][R] */
function solved(rows: readonly (readonly Tensor[])[], G: readonly (readonly Tensor[])[]): Tensor[][] {
  const [[g11, g12], [g21, g22] = []] = G as [[Tensor, Tensor?], [Tensor, Tensor]?];
  if (g12 === undefined || g21 === undefined || g22 === undefined) {
    const inverse = complexReciprocal(g11, { shift: 1 });
    return rows.map(([row]) => [complexMultiply(row as Tensor, inverse)]);
  }
  // The determinant of 1 + G is 1 + g₁₁ + g₂₂ + g₁₁·g₂₂ − g₁₂·g₂₁.
  const determinant = subtract(add(add(g11, g22), complexMultiply(g11, g22)), complexMultiply(g12, g21));
  const inverse = complexReciprocal(determinant, { shift: 1 });
  return rows.map((row) => {
    const [x, y] = row as [Tensor, Tensor];
    return [
      complexMultiply(subtract(add(x, complexMultiply(x, g22)), complexMultiply(y, g21)), inverse),
      complexMultiply(subtract(add(y, complexMultiply(y, g11)), complexMultiply(x, g12)), inverse),
    ];
  });
}

/**
 * The convolution kernel of systems that are a diagonal plus low rank, from its values at the roots of unity:
 *
 *     K̂(ω) = r(b·C̃) − (1 + ω)·r(p·C̃)·(1 + (1 + ω)·r(p̄·p))⁻¹·r(b·p̄)      K = irfft(K̂, L)
 *
 * where r is `cauchy`.
 * @param C complex, [C,H,N,2] f32: C̃ = C·(1 − Ā^L) for this very length (`truncatedOutput`)
 * @returns [C,H,L]
 *
 * Source: Gu, Goel & Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces", section 3.2 and appendix C.3.
 */
export function s4Kernel(C: Tensor, system: ContinuousSystem, length: number): Tensor<'f32'> {
  return scope(() => {
    const { a, b, p } = system;
    const shared = products(C, system, length);
    const plain = unstacked(cauchy(stacked([...unstacked(C).map((row) => complexMultiply(row, b)), ...p.map((one) => complexMultiply(b, one, { conjugate: true }))]), a, length));
    const through = plain.slice(plain.length - p.length);
    const corrections = solved(shared.slice(p.length), shared.slice(0, p.length)).map((row) => total(row.map((value, j) => complexMultiply(value, through[j] as Tensor))));
    return irfft(stacked(corrections.map((correction, c) => subtract(plain[c] as Tensor, correction))), length);
  });
}

/**
 * C·Ā^L, by L steps of the transposed recurrence.
 * @param C complex, [C,H,N,2] f32
 */
export function outputAfter(C: Tensor, system: ContinuousSystem, length: number): Tensor {
  return scope(() => {
    const [rows = 0, features = 0] = C.shape;
    const { change, input, left, right } = transposedSystem(discreteSystem(system));
    const nothing = zeros(C.backend, input.shape);
    const outputs = reshape(nothing, [1, ...input.shape]);
    return ltiScan(zeros(C.backend, [rows, length, features]), { change, input: nothing, C: outputs, left, right }, { initialState: C }).finalState;
  });
}

/** C̃ = C·(1 − Ā^L), what `s4Kernel` takes for a length. @param C complex, [C,H,N,2] f32 */
export const truncatedOutput = (C: Tensor, system: ContinuousSystem, length: number): Tensor => scope(() => subtract(C, outputAfter(C, system, length)));

/** C̃ for twice the length of a C̃: C·(1 − Ā^{2L}) = C̃·(1 + Ā^L). */
export const doubledOutput = (C: Tensor, system: ContinuousSystem, length: number): Tensor => scope(() => add(C, outputAfter(C, system, length)));

/**
 * C = C̃·(1 − Ā^L)⁻¹, the mean of C̃·(1 − ω·Ā)⁻¹ over the roots of unity, in linear time for each root. Not differentiable: under a tape it
 * is an error to ask for a gradient through it.
 * @param C C̃ of a length: complex, [C,H,N,2] f32
 */
export function trueOutput(C: Tensor, system: ContinuousSystem, length: number): Tensor {
  const made = withRecorder(null, () => scope(() => meanOverRoots(C, system, length)));
  record({
    operation: 'trueOutput',
    inputs: [C, system.a, ...system.p],
    outputs: [made],
    saved: {},
    backward() {
      throw new ArgumentError('trueOutput: is not differentiable. Hint: train with the output weights themselves (kernelLength 0), or as a convolution');
    },
  });
  return made;
}

function meanOverRoots(C: Tensor, system: ContinuousSystem, length: number): Tensor {
  const { a, p } = system;
  const { backend } = C;
  const [features = 0] = a.shape;
  const nodes = Math.floor(length / 2) + 1;
  // Nodes stand for a root and its conjugate; the first, and the last of an even length, are their own.
  const weights = Array.from({ length: 2 * nodes }, (_, i) => (i % 2 === 1 ? 0 : (i === 0 || i === length ? 0.5 : 1) / length));
  const each = tensor(backend, weights, [nodes, 2]);
  const ones = reshape(add(zeros(backend, [features, 2 * nodes]), reshape(each, [2 * nodes])), [features, nodes, 2]);
  const means = (spectrum: Tensor) => cauchyTransposed(spectrum, a, length, 'phase');
  const plain = means(ones);
  const shared = products(C, system, length);
  const rows = unstacked(C).map((row, c) => {
    const [through] = solved([shared[p.length + c] as Tensor[]], shared.slice(0, p.length)) as [Tensor[]];
    // conj(means(conj s)) is the mean of s over the resolvent; `plain` is that of 1, conjugated.
    const h = subtract(
      complexMultiply(row, plain, { conjugate: true }),
      total(through.map((s, j) => conjugate(complexMultiply(means(conjugate(complexMultiply(s, each))), p[j] as Tensor)))),
    );
    const back = p.map((one) => byFeature(conjugate(one), twiceReal(h, one)));
    return total([subtract(h, affine(complexMultiply(h, a), 0.5)), ...back]);
  });
  return stacked(rows);
}

/** x̄ */
const conjugate = (x: Tensor): Tensor => multiply(x, tensor(x.backend, [1, -1], [2]));
