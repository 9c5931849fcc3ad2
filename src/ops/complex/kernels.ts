import { dividedElements, defineKernel, input, output } from '../../tensor/index.js';
import { at, conjugate as conjugated, inverse, phi, put, times, type Complex } from './numbers.js';
import { complexMultiplyGpu, complexUnaryBackwardGpu, complexUnaryGpu } from './webgpu.js';

/**
 * z = x·y, or x·ȳ with `conjugate`. x and z [rows, columns] complex numbers; y as x, or one row for all (`yRow` is then 0, else
 * `columns`).
 */
export const complexMultiply = defineKernel('complex_multiply', {
  buffers: { x: input.f32, y: input.f32, z: output.f32 },
  parameters: { rows: 'int', columns: 'int', yRow: 'int', conjugate: 'flag' },
  operations: (p) => 6 * p.rows * p.columns,
  divisions: ({ rows, columns, yRow }) =>
    dividedElements({ rows }, { x: 2 * columns, y: 2 * yRow, z: 2 * columns }, { x: 2, y: 2, z: 2 }),
  webgpu: complexMultiplyGpu,
  reference({ x, y, z }, { rows, columns, yRow, conjugate }) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const right = at(y, r * yRow + c);
        put(z, r * columns + c, times(at(x, r * columns + c), conjugate ? conjugated(right) : right));
      }
    }
  },
});

const shifted = ([re, im]: Complex, shift: number): Complex => [re + shift, im];

/** Elements are complex: two numbers. */
const eachNumber = <B extends string>(...names: B[]) => [{ along: 'count', strides: Object.fromEntries(names.map((name) => [name, 2])) as Record<B, number> }] as const;

/** y = v̄ / (|v|² + ε), v = shift + x, or y = (e^x − 1) / x, of `count` complex numbers. */
export const complexUnary = defineKernel('complex_unary', {
  buffers: { x: input.f32, y: output.f32 },
  parameters: { function: 'int', count: 'int', shift: 'float', epsilon: 'float' },
  operations: (p) => 20 * p.count,
  divisions: () => eachNumber('x', 'y'),
  webgpu: complexUnaryGpu,
  reference({ x, y }, { function: number, count, shift, epsilon }) {
    for (let i = 0; i < count; i++) put(y, i, number === 0 ? inverse(shifted(at(x, i), shift), epsilon) : phi(at(x, i)).value);
  },
});

/** dx, where gradients of a complex number are those by its real and by its imaginary part. */
export const complexUnaryBackward = defineKernel('complex_unary_backward', {
  buffers: { x: input.f32, dy: input.f32, dx: output.f32 },
  parameters: { function: 'int', count: 'int', shift: 'float', epsilon: 'float' },
  operations: (p) => 40 * p.count,
  divisions: () => eachNumber('x', 'dy', 'dx'),
  webgpu: complexUnaryBackwardGpu,
  reference({ x, dy, dx }, { function: number, count, shift, epsilon }) {
    for (let i = 0; i < count; i++) {
      if (number === 1) {
        put(dx, i, times(at(dy, i), conjugated(phi(at(x, i)).slope)));
        continue;
      }
      const [re, im] = shifted(at(x, i), shift);
      const [dre, dim] = at(dy, i);
      const below = re * re + im * im + epsilon;
      const along = (2 * (dre * re - dim * im)) / below;
      put(dx, i, [(dre - along * re) / below, (-dim - along * im) / below]);
    }
  },
});
