import { ArgumentError } from '../../util/errors.js';
import { empty, expectRank, expectShape, formatShape, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { zeros } from '../create.js';
import { fft as kernel } from './kernels.js';
import { transformPlan } from './plan.js';
import { transformTables } from './tables.js';

/** A complex sequence of every feature: real and imaginary parts, each [B,L,H]. */
export interface ComplexPair {
  readonly real: Tensor<'f32'>;
  readonly imaginary: Tensor<'f32'>;
}

interface Transform {
  readonly inverse: boolean;
  readonly scale: number;
}

function transformed(real: Tensor, imaginary: Tensor, { inverse, scale }: Transform): ComplexPair {
  const { backend, shape } = real;
  const [batch = 0, length = 0, features = 0] = shape;
  const plan = transformPlan(length, batch * features);
  const { size, areas, workSize } = plan;
  const out = { real: empty(backend, shape, 'f32'), imaginary: empty(backend, shape, 'f32') };
  launch(
    kernel,
    { real, imaginary, ...transformTables(backend, plan), realOut: out.real, imaginaryOut: out.imaginary, work: empty(backend, [workSize]) },
    { batch, length, features, size, areas, realPitch: real.pitch, imaginaryPitch: imaginary.pitch, inverse, scale },
  );
  return out;
}

/**
 * The discrete Fourier transform of complex numbers along the sequence, each feature by itself: out[k] = Σₜ x[t]·e^{−2πikt/L}. The inverse has +
 * in the exponent and is divided by L. Differentiable.
 * @param real [B,L,H] f32, any L ≥ 1; rows may have gaps
 * @param imaginary [B,L,H] f32
 * @returns real and imaginary parts [B,L,H]; both must be disposed
 * @throws ShapeError, ArgumentError
 */
export function fft(real: Tensor, imaginary: Tensor, { inverse = false }: { readonly inverse?: boolean } = {}): ComplexPair {
  return operation('fft', { real: [real, 'f32'], imaginary: [imaginary, 'f32'] }, () => {
    expectRank('fft', 'real', real.shape, 3, '[B,L,H]');
    expectShape('fft', 'imaginary', imaginary.shape, real.shape, '[B,L,H]', 'as real');
    if (real.size === 0) throw new ArgumentError({ operation: 'fft', argument: 'real', expected: 'no extent of 0', got: formatShape(real.shape) });
    const { backend, shape } = real;
    const scale = inverse ? 1 / (shape[1] ?? 1) : 1;
    const out = transformed(real, imaginary, { inverse, scale });
    record({
      operation: 'fft',
      inputs: [real, imaginary],
      outputs: [out.real, out.imaginary],
      saved: {},
      // The adjoint of a transform has the other sign in its exponent.
      backward({ cotangents: [dreal, dimaginary] }) {
        if (!dreal && !dimaginary) return [null, null];
        const none = () => zeros(backend, shape);
        const d = transformed(dreal ?? none(), dimaginary ?? none(), { inverse: !inverse, scale });
        return [d.real, d.imaginary];
      },
    });
    return out;
  });
}
