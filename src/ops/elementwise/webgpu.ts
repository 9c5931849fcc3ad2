import { perElement } from '../../backend/webgpu/per-element.js';
import type { GpuKernel } from '../../tensor/index.js';
import { wgslMath } from '../webgpu-math.js';
import { binaryFunctions, unaryFunctions, type BinaryFunction, type UnaryFunction } from './functions.js';

const unaryNames = Object.keys(unaryFunctions) as UnaryFunction[];
const binaryNames = Object.keys(binaryFunctions) as BinaryFunction[];

/** f(x) and f′(x), where y = f(x). */
const unaryCode: Readonly<Record<UnaryFunction, readonly [value: string, derivative: string]>> = {
  negate: ['-x', '-1.0'],
  exp: ['exp(x)', 'y'],
  log: ['log(x)', '1.0 / x'],
  square: ['x * x', '2.0 * x'],
  sqrt: ['sqrt(x)', '0.5 / y'],
  reciprocal: ['1.0 / x', '-y * y'],
  sigmoid: ['sigmoid(x)', 'y * (1.0 - y)'],
  silu: ['silu(x)', 'y + sigmoid(x) * (1.0 - y)'],
  softplus: ['softplus(x)', 'sigmoid(x)'],
  // tanh may overflow on some drivers; beyond 15 it is ±1 to the last bit.
  tanh: ['tanh(clamp(x, -15.0, 15.0))', '1.0 - y * y'],
  relu: ['max(x, 0.0)', 'select(0.0, 1.0, x > 0.0)'],
};

const binaryCode: Readonly<Record<BinaryFunction, string>> = { add: 'a + b', subtract: 'a - b', multiply: 'a * b', divide: 'a / b' };

/** Row and column of element i of a dense [rows, columns]. */
const position = 'let row = i / p.columns; let column = i % p.columns;';

export const unaryGpu: GpuKernel<'x' | 'y', 'function' | 'rows' | 'columns' | 'xPitch'> = ({ parameters, dtype }) => {
  const name = unaryNames[parameters.function] ?? 'negate';
  return {
    dispatches: [
      perElement({
        variant: name,
        count: parameters.rows * parameters.columns,
        buffers: ['x', 'y'],
        functions: `${wgslMath} fn f(x: f32) -> f32 { return ${unaryCode[name][0]}; }`,
        body: `${position} y[p.y_at + i] = ${dtype('y') ?? 'f32'}(f(f32(x[p.x_at + row * p.xPitch + column])));`,
      }),
    ],
  };
};

export const unaryBackwardGpu: GpuKernel<'x' | 'dy' | 'dx', 'function' | 'rows' | 'columns' | 'xPitch' | 'dyPitch'> = ({
  parameters,
  dtype,
}) => {
  const name = unaryNames[parameters.function] ?? 'negate';
  return {
    dispatches: [
      perElement({
        variant: name,
        count: parameters.rows * parameters.columns,
        buffers: ['x', 'dy', 'dx'],
        functions: `${wgslMath}
          fn slope(x: f32) -> f32 { let y = ${unaryCode[name][0]}; return ${unaryCode[name][1]}; }`,
        body: `${position}
          dx[p.dx_at + i] = ${dtype('dx') ?? 'f32'}(
            f32(dy[p.dy_at + row * p.dyPitch + column]) * slope(f32(x[p.x_at + row * p.xPitch + column])));`,
      }),
    ],
  };
};

export const binaryGpu: GpuKernel<'a' | 'b' | 'y', 'function' | 'rows' | 'columns' | 'aRow' | 'aColumn' | 'bRow' | 'bColumn'> = ({
  parameters,
  dtype,
}) => {
  const name = binaryNames[parameters.function] ?? 'add';
  return {
    dispatches: [
      perElement({
        variant: name,
        count: parameters.rows * parameters.columns,
        buffers: ['a', 'b', 'y'],
        functions: `fn f(a: f32, b: f32) -> f32 { return ${binaryCode[name]}; }`,
        body: `${position}
          y[p.y_at + i] = ${dtype('y') ?? 'f32'}(
            f(f32(a[p.a_at + row * p.aRow + column * p.aColumn]), f32(b[p.b_at + row * p.bRow + column * p.bColumn])));`,
      }),
    ],
  };
};

export const affineGpu: GpuKernel<'x' | 'y', 'scale' | 'shift' | 'rows' | 'columns' | 'xPitch'> = ({ parameters, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'affine',
      count: parameters.rows * parameters.columns,
      buffers: ['x', 'y'],
      body: `${position}
        y[p.y_at + i] = ${dtype('y') ?? 'f32'}(fma(p.scale, f32(x[p.x_at + row * p.xPitch + column]), p.shift));`,
    }),
  ],
});

export const accumulateGpu: GpuKernel<'x' | 'y', 'rows' | 'columns' | 'xPitch' | 'yPitch'> = ({ parameters, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'accumulate',
      count: parameters.rows * parameters.columns,
      buffers: ['x', 'y'],
      body: `${position}
        let at = p.y_at + row * p.yPitch + column;
        y[at] = ${dtype('y') ?? 'f32'}(f32(y[at]) + f32(x[p.x_at + row * p.xPitch + column]));`,
    }),
  ],
});
