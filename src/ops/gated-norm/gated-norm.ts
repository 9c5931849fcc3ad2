import { empty, expectNumber, expectShape, isRecording, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { checkNorm, partialSums } from '../rms-norm/arguments.js';
import * as kernels from './kernels.js';

/** Options of `gatedRmsNorm`. */
export interface GatedNormOptions {
  /** ε, added to the mean square under the root; default 1e-5. */
  readonly epsilon?: number | undefined;
  /** How many equal parts of the last axis are normalised apart; default 1, the whole. */
  readonly groups?: number | undefined;
  /** Whether the gate comes after the norm, norm(x)·weight ⊙ silu(z), instead of before it; default false. */
  readonly normBeforeGate?: boolean | undefined;
}

/**
 * Root mean square norm with a gate: norm(x ⊙ silu(z))·weight, or norm(x)·weight ⊙ silu(z) with `normBeforeGate`.
 *
 * The norm divides by √(mean(v²) + ε), the mean taken over the last axis or over each of its `groups` parts.
 *
 * @param x [..., D] f32 or f16; rows may have gaps between them, and z's too
 * @param z gate, of x's shape and dtype
 * @param weight [D] f32
 * @returns [..., D] of x's dtype
 * @throws ShapeError, DTypeError, ArgumentError
 *
 * Source: the Mamba-2 block, Dao & Gu (2024), section 7.1 and figure 6; the order of norm and gate is the official code's `norm_before_gate`.
 */
export function gatedRmsNorm(x: Tensor, z: Tensor, weight: Tensor, options: GatedNormOptions = {}): Tensor<FloatDType> {
  const name = 'gatedRmsNorm';
  const { epsilon = 1e-5, groups = 1, normBeforeGate = false } = options;
  return operation(name, { x: [x, 'float'], z: [z, 'float'], weight: [weight, 'f32'] }, () => {
    checkNorm(name, x, { weight }, epsilon, null);
    expectShape(name, 'z', z.shape, x.shape, '[…,D]', 'as x');
    const { rows, columns, shape, backend } = x;
    expectNumber(name, 'groups', groups, (n) => Number.isInteger(n) && n > 0 && columns % n === 0, `a divisor of the ${columns} columns of x`);
    const y = empty(backend, shape, x.dtype as FloatDType);
    const statistics = isRecording() ? empty(backend, [rows, groups]) : null;
    const common = { rows, columns, groups, xPitch: x.pitch, zPitch: z.pitch, normFirst: normBeforeGate };
    launch(kernels.gatedRmsNorm, { x, z, weight, y, statistics }, { ...common, epsilon });
    if (statistics) {
      record({
        operation: name,
        inputs: [x, z, weight],
        outputs: [y],
        saved: { x, z, weight, statistics },
        backward({ cotangents: [dy], saved, needed }) {
          if (!dy) return [null, null, null];
          const dx = needed[0] ? empty(backend, shape, saved.x.dtype) : null;
          const dz = needed[1] ? empty(backend, shape, saved.z.dtype) : null;
          const dweight = needed[2] ? empty(backend, [columns]) : null;
          const blocks = partialSums(shape);
          launch(
            kernels.gatedRmsNormBackward,
            { ...saved, dy, dx, dz, dweight, partials: dweight && empty(backend, [blocks, columns]) },
            { ...common, dyPitch: dy.pitch, blocks },
          );
          return [dx, dz, dweight];
        },
      });
    }
    return y;
  });
}
