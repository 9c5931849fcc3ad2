import type { GpuKernel } from '../../tensor/index.js';
import { complexBuffer, wgslComplex } from '../../wgsl/complex.js';
import { perElement } from '../../wgsl/per-element.js';

export const complexMultiplyGpu: GpuKernel<'x' | 'y' | 'z', 'rows' | 'columns' | 'yRow' | 'conjugate'> = ({ parameters: { rows, columns, conjugate } }) => ({
  dispatches: [
    perElement({
      variant: `complex multiply ${conjugate}`,
      count: rows * columns,
      buffers: [complexBuffer('x'), complexBuffer('y'), complexBuffer('z')],
      functions: wgslComplex,
      body: `
        let right = y[p.y_at + i / p.columns * p.yRow + i % p.columns];
        z[p.z_at + i] = times(x[p.x_at + i], ${conjugate === 1 ? 'conjugate(right)' : 'right'});`,
    }),
  ],
});

type Parameters = 'function' | 'count' | 'shift' | 'epsilon';

export const complexUnaryGpu: GpuKernel<'x' | 'y', Parameters> = ({ parameters: { count, function: number } }) => ({
  dispatches: [
    perElement({
      variant: `complex unary ${number}`,
      count,
      buffers: [complexBuffer('x'), complexBuffer('y')],
      functions: wgslComplex,
      body:
        number === 1
          ? 'y[p.y_at + i] = phi(x[p.x_at + i]);'
          : `let v = x[p.x_at + i] + vec2<f32>(p.shift, 0.0);
             y[p.y_at + i] = conjugate(v) / (dot(v, v) + p.epsilon);`,
    }),
  ],
});

export const complexUnaryBackwardGpu: GpuKernel<'x' | 'dy' | 'dx', Parameters> = ({ parameters: { count, function: number } }) => ({
  dispatches: [
    perElement({
      variant: `complex unary backward ${number}`,
      count,
      buffers: [complexBuffer('x'), complexBuffer('dy'), complexBuffer('dx')],
      functions: wgslComplex,
      body:
        number === 1
          ? 'dx[p.dx_at + i] = times(dy[p.dy_at + i], conjugate(phi_slope(x[p.x_at + i])));'
          : `let v = x[p.x_at + i] + vec2<f32>(p.shift, 0.0);
             let d = conjugate(dy[p.dy_at + i]);
             let below = dot(v, v) + p.epsilon;
             dx[p.dx_at + i] = (d - 2.0 * dot(d, v) / below * v) / below;`,
    }),
  ],
});
