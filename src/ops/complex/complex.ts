import { empty, expectNumber, formatShape, launch, operation, record, sameShape, sizeOf, type Tensor } from '../../tensor/index.js';
import { ShapeError } from '../../util/errors.js';
import { sum } from '../reduction/reduction.js';
import { contiguous, reshape } from '../view/view.js';
import * as kernels from './kernels.js';

/** In the kernels' numbering (enum ComplexFunction in cpu.cc). */
const functions = ['reciprocal', 'phi'] as const;

/** Checks that the last axis holds real and imaginary part. */
export function expectComplex(operation: string, argument: string, { shape }: Tensor, expected = '[…,2], real and imaginary part last'): void {
  if (shape.at(-1) !== 2) throw new ShapeError({ operation, argument, expected, got: formatShape(shape) });
}

/**
 * x·y of complex numbers, whose last axis of 2 is the real and the imaginary part.
 * @param x [..., 2] f32
 * @param y of x's shape, or of its last axes: then every part of x of that shape is multiplied by it
 * @param options.conjugate multiplies by the conjugate of y; default false
 * @returns of x's shape
 * @throws ShapeError, DTypeError
 */
export function complexMultiply(x: Tensor, y: Tensor, { conjugate = false }: { readonly conjugate?: boolean } = {}): Tensor<'f32'> {
  const name = 'complexMultiply';
  return operation(name, { x: [x, 'f32'], y: [y, 'f32'] }, () => {
    expectComplex(name, 'x', x);
    expectComplex(name, 'y', y);
    if (y.rank > x.rank || !sameShape(x.shape.slice(x.rank - y.rank), y.shape)) {
      const [expected, got] = [`the shape of x = ${formatShape(x.shape)}, or that of its last axes`, formatShape(y.shape)];
      throw new ShapeError({ operation: name, argument: 'y', expected, got });
    }
    const [left, right] = [contiguous(x), contiguous(y)];
    const z = product(left, right, conjugate);
    record({
      operation: name,
      inputs: [left, right],
      outputs: [z],
      saved: { left, right },
      backward({ cotangents: [dz], saved, needed }) {
        if (!dz) return [null, null];
        const d = contiguous(dz);
        const dx = needed[0] ? product(d, saved.right, !conjugate) : null;
        if (!needed[1]) return [dx, null];
        const each = conjugate ? product(saved.left, d, true) : product(d, saved.left, true);
        const { shape, size } = saved.right;
        return [dx, reshape(each.size === size ? each : sum(reshape(each, [each.size / size, size]), 0), shape)];
      },
    });
    return z;
  });
}

/** Dense operands. */
function product(x: Tensor, y: Tensor, conjugate: boolean): Tensor<'f32'> {
  const z = empty(x.backend, x.shape, 'f32');
  const columns = y.size / 2;
  const rows = columns === 0 ? 0 : x.size / y.size;
  launch(kernels.complexMultiply, { x, y, z }, { rows, columns, yRow: rows === 1 ? columns : 0, conjugate });
  return z;
}

/**
 * v̄ / (|v|² + ε) with v = shift + x, which is 1 / (shift + x) for ε = 0.
 * @param x complex, [..., 2] f32
 * @param options.shift a real number; default 0
 * @param options.epsilon ε; default 0
 * @returns of x's shape
 * @throws ShapeError, DTypeError, ArgumentError
 */
export function complexReciprocal(x: Tensor, { shift = 0, epsilon = 0 }: { readonly shift?: number; readonly epsilon?: number } = {}): Tensor<'f32'> {
  expectNumber('complexReciprocal', 'shift', shift, Number.isFinite, 'a finite number');
  expectNumber('complexReciprocal', 'epsilon', epsilon, (value) => value >= 0 && value < Infinity, 'a finite number of at least 0');
  return unary('complexReciprocal', 'reciprocal', x, { shift, epsilon });
}

/**
 * (e^x − 1) / x of complex numbers, 1 at 0: what a zero-order hold over a step multiplies the input by.
 * @param x complex, [..., 2] f32
 * @returns of x's shape
 * @throws ShapeError, DTypeError
 */
export const complexPhi = (x: Tensor): Tensor<'f32'> => unary('complexPhi', 'phi', x, { shift: 0, epsilon: 0 });

function unary(name: string, kind: (typeof functions)[number], given: Tensor, options: { shift: number; epsilon: number }): Tensor<'f32'> {
  return operation(name, { x: [given, 'f32'] }, () => {
    expectComplex(name, 'x', given);
    const x = contiguous(given);
    const y = empty(x.backend, x.shape, 'f32');
    const parameters = { function: functions.indexOf(kind), count: sizeOf(x.shape) / 2, ...options };
    launch(kernels.complexUnary, { x, y }, parameters);
    record({
      operation: name,
      inputs: [x],
      outputs: [y],
      saved: { x },
      backward({ cotangents: [dy], saved }) {
        if (!dy) return [null];
        const dx = empty(dy.backend, dy.shape);
        launch(kernels.complexUnaryBackward, { x: saved.x, dy: contiguous(dy), dx }, parameters);
        return [dx];
      },
    });
    return y;
  });
}
