import { ShapeError } from '../../util/errors.js';
import { empty, expectNumber, expectTensors, formatShape, launch, operation, record, sameShape, type FloatDType, type Tensor } from '../../tensor/index.js';
import { sum } from '../reduction/reduction.js';
import { reshape } from '../view/view.js';
import { binaryFunctions, unaryNumber, type BinaryFunction, type UnaryFunction } from './functions.js';
import * as kernels from './kernels.js';

const binaryNumbers = Object.keys(binaryFunctions) as BinaryFunction[];

function unary(name: UnaryFunction, x: Tensor): Tensor<FloatDType> {
  return operation(name, { x: [x, 'float'] }, () => {
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    const number = unaryNumber(name);
    const { rows, columns } = x;
    launch(kernels.unary, { x, y }, { function: number, rows, columns, xPitch: x.pitch });
    record({
      operation: name,
      inputs: [x],
      outputs: [y],
      saved: { x },
      backward({ cotangents: [dy], saved }) {
        if (!dy) return [null];
        const dx = empty(dy.backend, dy.shape, saved.x.dtype);
        const pitches = { xPitch: saved.x.pitch, dyPitch: dy.pitch };
        launch(kernels.unaryBackward, { x: saved.x, dy, dx }, { function: number, rows, columns, ...pitches });
        return [dx];
      },
    });
    return y;
  });
}

/** −x */
export const negate = (x: Tensor): Tensor<FloatDType> => unary('negate', x);
/** e^x */
export const exp = (x: Tensor): Tensor<FloatDType> => unary('exp', x);
/** Natural logarithm. */
export const log = (x: Tensor): Tensor<FloatDType> => unary('log', x);
/** x² */
export const square = (x: Tensor): Tensor<FloatDType> => unary('square', x);
/** √x */
export const sqrt = (x: Tensor): Tensor<FloatDType> => unary('sqrt', x);
/** 1 / x */
export const reciprocal = (x: Tensor): Tensor<FloatDType> => unary('reciprocal', x);
/** 1 / (1 + e^−x) */
export const sigmoid = (x: Tensor): Tensor<FloatDType> => unary('sigmoid', x);
/** x·sigmoid(x), also called swish */
export const silu = (x: Tensor): Tensor<FloatDType> => unary('silu', x);
/** ln(1 + e^x), linear above 20 */
export const softplus = (x: Tensor): Tensor<FloatDType> => unary('softplus', x);
/** Hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor<FloatDType> => unary('tanh', x);
/** max(x, 0) */
export const relu = (x: Tensor): Tensor<FloatDType> => unary('relu', x);
/** x·Φ(x) = ½·x·(1 + erf(x/√2)), exact (Hendrycks and Gimpel 2016) */
export const gelu = (x: Tensor): Tensor<FloatDType> => unary('gelu', x);
/** ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the approximation that transformers calls gelu_new and gelu_pytorch_tanh */
export const geluTanh = (x: Tensor): Tensor<FloatDType> => unary('geluTanh', x);

/**
 * scale·x + shift with numbers for both.
 * @param x any shape, f32
 */
export function affine(x: Tensor, scale: number, shift = 0): Tensor<FloatDType> {
  expectNumber('affine', 'scale', scale, Number.isFinite, 'a finite number');
  expectNumber('affine', 'shift', shift, Number.isFinite, 'a finite number');
  return operation('affine', { x: [x, 'float'] }, () => {
    const y = empty(x.backend, x.shape, x.dtype as FloatDType);
    launch(kernels.affine, { x, y }, { scale, shift, rows: x.rows, columns: x.columns, xPitch: x.pitch });
    record({
      operation: 'affine',
      inputs: [x],
      outputs: [y],
      saved: {},
      backward: ({ cotangents: [dy] }) => [dy ? affine(dy, scale) : null],
    });
    return y;
  });
}

/**
 * y += x, in place and not recorded: for gradients and other sums that nothing differentiates.
 * @throws ShapeError unless the shapes are the same
 */
export function accumulateInto(x: Tensor, y: Tensor): void {
  expectTensors('accumulateInto', { x: [x, 'float'], y: [y, 'float'] });
  if (!sameShape(x.shape, y.shape)) throw mismatch('accumulateInto', x, y);
  launch(kernels.accumulate, { x, y }, { rows: x.rows, columns: x.columns, xPitch: x.pitch, yPitch: y.pitch });
}

/** a + b; b (or a) may be of the same shape, `[C]` for the last extent C, `[…, 1]` for one value a row, or of one element. */
export const add = (a: Tensor, b: Tensor): Tensor<FloatDType> => binary('add', a, b);
/** a − b; broadcasting as `add`. */
export const subtract = (a: Tensor, b: Tensor): Tensor<FloatDType> => binary('subtract', a, b);
/** a·b, element by element; broadcasting as `add`. */
export const multiply = (a: Tensor, b: Tensor): Tensor<FloatDType> => binary('multiply', a, b);
/** a / b; broadcasting as `add`. */
export const divide = (a: Tensor, b: Tensor): Tensor<FloatDType> => binary('divide', a, b);

/** How an operand is stretched to the result: not at all, over the rows, over the columns, or over both. */
type Stretch = 'none' | 'rows' | 'columns' | 'both';

function stretchOf(operand: Tensor, to: Tensor): Stretch | undefined {
  if (sameShape(operand.shape, to.shape)) return 'none';
  if (operand.size === 1) return 'both';
  if (operand.rank === 1 && operand.columns === to.columns) return 'rows';
  if (sameShape(operand.shape, [...to.shape.slice(0, -1), 1])) return 'columns';
  return undefined;
}

const strides = (operand: Tensor, stretch: Stretch): [row: number, column: number] => [
  stretch === 'rows' || stretch === 'both' ? 0 : operand.pitch,
  stretch === 'columns' || stretch === 'both' ? 0 : 1,
];

function binary(name: BinaryFunction, a: Tensor, b: Tensor): Tensor<FloatDType> {
  return operation(name, { a: [a, 'float'], b: [b, 'float'] }, () => {
    const larger = a.size >= b.size ? a : b;
    const aStretch = stretchOf(a, larger);
    const bStretch = stretchOf(b, larger);
    if (aStretch === undefined || bStretch === undefined) throw mismatch(name, a, b);
    const y = empty(a.backend, larger.shape, larger.dtype as FloatDType);
    const [aRow, aColumn] = strides(a, aStretch);
    const [bRow, bColumn] = strides(b, bStretch);
    const { rows, columns } = larger;
    launch(kernels.binary, { a, b, y }, { function: binaryNumbers.indexOf(name), rows, columns, aRow, aColumn, bRow, bColumn });
    const linear = name === 'add' || name === 'subtract';
    record({
      operation: name,
      inputs: [a, b],
      outputs: [y],
      saved: linear ? { a: null, b: null } : { a, b },
      backward({ cotangents: [dy], saved, needed }) {
        if (!dy) return [null, null];
        const { a: left, b: right } = saved as { a: Tensor; b: Tensor };
        const [da, db] = {
          add: [() => dy, () => dy],
          subtract: [() => dy, () => negate(dy)],
          multiply: [() => multiply(dy, right), () => multiply(dy, left)],
          divide: [() => divide(dy, right), () => negate(divide(divide(multiply(dy, left), right), right))],
        }[name] as [() => Tensor, () => Tensor];
        return [
          needed[0] ? unstretch(da(), aStretch, a.shape) : null,
          needed[1] ? unstretch(db(), bStretch, b.shape) : null,
        ];
      },
    });
    return y;
  });
}

/** Sums a gradient over what the operand was stretched over. */
function unstretch(gradient: Tensor, stretch: Stretch, shape: readonly number[]): Tensor {
  switch (stretch) {
    case 'none':
      return gradient;
    case 'rows':
      return sum(reshape(gradient, [gradient.rows, gradient.columns]), 0);
    case 'columns':
      return reshape(sum(gradient, -1), shape);
    case 'both':
      return reshape(sum(gradient), shape);
  }
}

function mismatch(operation: string, a: Tensor, b: Tensor): ShapeError {
  return new ShapeError({
    operation,
    argument: 'b',
    expected: `the shape of a = ${formatShape(a.shape)}, or [C], […,1] or one element to be broadcast`,
    got: formatShape(b.shape),
  });
}
