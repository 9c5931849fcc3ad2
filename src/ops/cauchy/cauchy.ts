import { empty, expectNumber, expectRank, expectShape, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeValue } from '../../util/errors.js';
import { expectComplex } from '../complex/complex.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** What sums are multiplied by: ½·e^{iθ} or cos θ. */
export type CauchyFactor = 'phase' | 'cosine';

/**
 * Products with Cauchy matrices at the roots of unity ω = e^{−2iθ}, θ = πk/L, k = 0 … ⌊L/2⌋:
 *
 *     y[…, h, k] = f(θ)·Σ_n ( v/(i·sin θ − cos θ·a/2) + v̄/(i·sin θ − cos θ·ā/2) )
 *
 * With f = ½·e^{iθ} that is Σ v/((1 − ω) − (1 + ω)·a/2) and its conjugate half: the resolvent of a system that the bilinear rule made
 * discrete, times 2/(1 + ω), without the pole at ω = −1. With f = cos θ it is that times 1 + ω.
 * @param v complex, [..., H, N, 2] f32
 * @param a Δ·A, complex, [H, N, 2] f32; real parts other than 0
 * @param length L, at least 1
 * @returns complex, [..., H, ⌊L/2⌋ + 1, 2]
 * @throws ShapeError, DTypeError, ArgumentError
 *
 * Source: Gu, Goel & Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces", appendix C.3.
 */
export function cauchy(v: Tensor, a: Tensor, length: number, { factor = 'phase' }: { readonly factor?: CauchyFactor } = {}): Tensor<'f32'> {
  const name = 'cauchy';
  return operation(name, { v: [v, 'f32'], a: [a, 'f32'] }, () => {
    if (!(['phase', 'cosine'] as unknown[]).includes(factor)) {
      throw new ArgumentError({ operation: name, argument: 'factor', expected: "'phase' or 'cosine'", got: describeValue(factor) });
    }
    expectNumber(name, 'length', length, (n) => Number.isSafeInteger(n) && n >= 1, 'an integer of at least 1');
    expectRank(name, 'a', a.shape, 3, '[H,N,2]');
    expectComplex(name, 'a', a, '[H,N,2]');
    const [features = 0, states = 0] = a.shape;
    const outer = v.shape.slice(0, -3);
    expectShape(name, 'v', v.shape, [...outer, ...a.shape], '[…,H,N,2]', 'as a');
    const [values, rates] = [contiguous(v), contiguous(a)];
    const { backend } = v;
    const nodes = Math.floor(length / 2) + 1;
    const y = empty(backend, [...outer, features, nodes, 2], 'f32');
    const rows = outer.reduce((product, extent) => product * extent, 1);
    const parameters = { rows, features, states, length, nodes, cosine: factor === 'cosine' };
    launch(kernels.cauchy, { v: values, a: rates, y }, parameters);
    record({
      operation: name,
      inputs: [values, rates],
      outputs: [y],
      saved: { v: values, a: rates },
      backward({ cotangents: [dy], saved, needed }) {
        if (!dy) return [null, null];
        const dv = needed[0] ? empty(backend, saved.v.shape) : null;
        const da = needed[1] ? empty(backend, saved.a.shape) : null;
        launch(kernels.cauchyBackward, { ...saved, dy: contiguous(dy), dv, da }, parameters);
        return [dv, da];
      },
    });
    return y;
  });
}

/**
 * Sums over all roots of unity, the other way round: Σ_k conj(s_k)·conj(f(θ))… as the gradient of `cauchy` by v has them, for `y` in the
 * gradient's place. Not recorded.
 * @param y complex, [..., H, ⌊L/2⌋ + 1, 2]
 * @param a complex, [H, N, 2]
 * @returns complex, [..., H, N, 2]
 */
export function cauchyTransposed(y: Tensor, a: Tensor, length: number, factor: CauchyFactor): Tensor<'f32'> {
  return operation('cauchyTransposed', { y: [y, 'f32'], a: [a, 'f32'] }, () => {
    const [features = 0, states = 0] = a.shape;
    const outer = y.shape.slice(0, -3);
    const dv = empty(y.backend, [...outer, ...a.shape], 'f32');
    const rows = outer.reduce((product, extent) => product * extent, 1);
    const parameters = { rows, features, states, length, nodes: Math.floor(length / 2) + 1, cosine: factor === 'cosine' };
    // v is read for the gradient by a alone.
    launch(kernels.cauchyBackward, { v: dv, a: contiguous(a), dy: contiguous(y), dv, da: null }, parameters);
    return dv;
  });
}
