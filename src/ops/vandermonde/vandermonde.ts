import { empty, expectNumber, expectRank, expectShape, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeValue } from '../../util/errors.js';
import { expectComplex } from '../complex/complex.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** How a continuous system becomes one of steps: the input held over a step ('zoh'), or the trapezoidal rule ('bilinear'). */
export type StateDiscretization = 'zoh' | 'bilinear';

/** @throws ArgumentError */
export function expectStateDiscretization(operation: string, value: unknown): void {
  if (value === 'zoh' || value === 'bilinear') return;
  throw new ArgumentError({ operation, argument: 'discretization', expected: "'zoh' or 'bilinear'", got: describeValue(value) });
}

/**
 * Products with a Vandermonde matrix: y[…, h, l] = Re Σ_n w[…, h, n]·Ā[h, n]ˡ for l = 0 … L − 1, the response of diagonal linear systems.
 * Ā = eᵃ, or (1 + a/2) / (1 − a/2) by the bilinear rule, is worked out in the kernel: a float32 cannot say how little less than 1 a slow
 * decay is, but a float32 a can.
 * @param w complex, [..., H, N, 2] f32
 * @param a Δ·A, complex, [H, N, 2] f32
 * @param length L, at least 1
 * @returns [..., H, L]
 * @throws ShapeError, DTypeError, ArgumentError
 *
 * Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", section 3.3.
 */
export function vandermonde(w: Tensor, a: Tensor, length: number, { discretization = 'zoh' }: { readonly discretization?: StateDiscretization } = {}): Tensor<'f32'> {
  const name = 'vandermonde';
  return operation(name, { w: [w, 'f32'], a: [a, 'f32'] }, () => {
    expectStateDiscretization(name, discretization);
    expectNumber(name, 'length', length, (n) => Number.isSafeInteger(n) && n >= 1, 'an integer of at least 1');
    expectRank(name, 'a', a.shape, 3, '[H,N,2]');
    expectComplex(name, 'a', a, '[H,N,2]');
    const [features = 0, states = 0] = a.shape;
    const outer = w.shape.slice(0, -3);
    expectShape(name, 'w', w.shape, [...outer, ...a.shape], '[…,H,N,2]', 'as a');
    const [weights, rates] = [contiguous(w), contiguous(a)];
    const rows = outer.reduce((product, extent) => product * extent, 1);
    const { backend } = w;
    const y = empty(backend, [...outer, features, length], 'f32');
    const parameters = { rows, features, states, length, bilinear: discretization === 'bilinear' };
    launch(kernels.vandermonde, { w: weights, a: rates, y }, parameters);
    record({
      operation: name,
      inputs: [weights, rates],
      outputs: [y],
      saved: { w: weights, a: rates },
      backward({ cotangents: [dy], saved, needed }) {
        if (!dy) return [null, null];
        const dw = needed[0] ? empty(backend, saved.w.shape) : null;
        const da = needed[1] ? empty(backend, saved.a.shape) : null;
        launch(kernels.vandermondeBackward, { ...saved, dy: contiguous(dy), dw, da }, parameters);
        return [dw, da];
      },
    });
    return y;
  });
}
