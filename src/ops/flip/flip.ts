import { empty, formatShape, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ShapeError } from '../../util/errors.js';
import * as kernels from './kernels.js';

/**
 * The rows of each sequence in the opposite order: y[…, t, :] = x[…, L−1−t, :]. It turns a causal layer into one that looks ahead.
 * @param x [..., L, C] f32 or f16
 * @returns [..., L, C] of x's dtype
 * @throws ShapeError when x has fewer than two axes
 */
export function flip(x: Tensor): Tensor<FloatDType> {
  return operation('flip', { x: [x, 'float'] }, () => {
    if (x.rank < 2) throw new ShapeError({ operation: 'flip', argument: 'x', expected: '[..., L, C]', got: formatShape(x.shape) });
    const [length = 0, columns = 0] = x.shape.slice(-2);
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    const batch = length === 0 ? 0 : x.rows / length;
    launch(kernels.flip, { x, y }, { batch, length, columns, xPitch: x.pitch });
    record({ operation: 'flip', inputs: [x], outputs: [y], saved: {}, backward: ({ cotangents: [dy] }) => [dy ? flip(dy) : null] });
    return y;
  });
}
