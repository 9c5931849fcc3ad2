import { defineKernel, dividedElements, input, inout, output } from '../../tensor/index.js';
import { binaryFunctions, unaryFunctions } from './functions.js';
import { accumulateGpu, affineGpu, binaryGpu, gatedBackwardGpu, gatedGpu, unaryBackwardGpu, unaryGpu } from './webgpu.js';

const unaryByNumber = Object.values(unaryFunctions);
const binaryByNumber = Object.values(binaryFunctions);

/** y[r, c] = f(x[r, c]) */
export const unary = defineKernel('unary', {
  buffers: { x: input.float, y: output.float },
  parameters: { function: 'int', rows: 'int', columns: 'int', xPitch: 'int' },
  operations: (p) => p.rows * p.columns,
  divisions: (p) => dividedElements(p, { x: p.xPitch, y: p.columns }),
  webgpu: unaryGpu,
  reference({ x, y }, p) {
    const f = unaryByNumber[p.function] ?? fail();
    forEach(p, (r, c) => {
      y[r * p.columns + c] = f.value(x[r * p.xPitch + c] ?? NaN);
    });
  },
});

/** dx[r, c] = dy[r, c]·f′(x[r, c]) */
export const unaryBackward = defineKernel('unary_backward', {
  buffers: { x: input.float, dy: input.float, dx: output.float },
  parameters: { function: 'int', rows: 'int', columns: 'int', xPitch: 'int', dyPitch: 'int' },
  operations: (p) => 2 * p.rows * p.columns,
  divisions: (p) => dividedElements(p, { x: p.xPitch, dy: p.dyPitch, dx: p.columns }),
  webgpu: unaryBackwardGpu,
  reference({ x, dy, dx }, p) {
    const f = unaryByNumber[p.function] ?? fail();
    forEach(p, (r, c) => {
      const value = x[r * p.xPitch + c] ?? NaN;
      dx[r * p.columns + c] = (dy[r * p.dyPitch + c] ?? NaN) * f.derivative(value, f.value(value));
    });
  },
});

/**
 * y[r, c] = f(a[r, c], b[r, c]); element [r, c] of a is at r·aRow + c·aColumn, so that a stride of 0 broadcasts; likewise b.
 */
export const binary = defineKernel('binary', {
  buffers: { a: input.float, b: input.float, y: output.float },
  parameters: { function: 'int', rows: 'int', columns: 'int', aRow: 'int', aColumn: 'int', bRow: 'int', bColumn: 'int' },
  operations: (p) => p.rows * p.columns,
  divisions: (p) => dividedElements(p, { a: p.aRow, b: p.bRow, y: p.columns }, { a: p.aColumn, b: p.bColumn }),
  webgpu: binaryGpu,
  reference({ a, b, y }, p) {
    const f = binaryByNumber[p.function] ?? fail();
    forEach(p, (r, c) => {
      y[r * p.columns + c] = f(a[r * p.aRow + c * p.aColumn] ?? NaN, b[r * p.bRow + c * p.bColumn] ?? NaN);
    });
  },
});

/** y[r, c] = f(gate[r, c])·up[r, c] */
export const gated = defineKernel('gated', {
  buffers: { gate: input.float, up: input.float, y: output.float },
  parameters: { function: 'int', rows: 'int', columns: 'int', gatePitch: 'int', upPitch: 'int' },
  operations: (p) => 2 * p.rows * p.columns,
  divisions: (p) => dividedElements(p, { gate: p.gatePitch, up: p.upPitch, y: p.columns }),
  webgpu: gatedGpu,
  reference({ gate, up, y }, p) {
    const f = unaryByNumber[p.function] ?? fail();
    forEach(p, (r, c) => {
      y[r * p.columns + c] = f.value(gate[r * p.gatePitch + c] ?? NaN) * (up[r * p.upPitch + c] ?? NaN);
    });
  },
});

/** dgate[r, c] = dy[r, c]·up[r, c]·f′(gate[r, c]), dup[r, c] = dy[r, c]·f(gate[r, c]) */
export const gatedBackward = defineKernel('gated_backward', {
  buffers: { gate: input.float, up: input.float, dy: input.float, dgate: output.float, dup: output.float },
  parameters: { function: 'int', rows: 'int', columns: 'int', gatePitch: 'int', upPitch: 'int', dyPitch: 'int' },
  operations: (p) => 4 * p.rows * p.columns,
  divisions: (p) => dividedElements(p, { gate: p.gatePitch, up: p.upPitch, dy: p.dyPitch, dgate: p.columns, dup: p.columns }),
  webgpu: gatedBackwardGpu,
  reference({ gate, up, dy, dgate, dup }, p) {
    const f = unaryByNumber[p.function] ?? fail();
    forEach(p, (r, c) => {
      const x = gate[r * p.gatePitch + c] ?? NaN;
      const value = f.value(x);
      const d = dy[r * p.dyPitch + c] ?? NaN;
      dgate[r * p.columns + c] = d * (up[r * p.upPitch + c] ?? NaN) * f.derivative(x, value);
      dup[r * p.columns + c] = d * value;
    });
  },
});

/** y[r, c] = scale·x[r, c] + shift */
export const affine = defineKernel('affine', {
  buffers: { x: input.float, y: output.float },
  parameters: { scale: 'float', shift: 'float', rows: 'int', columns: 'int', xPitch: 'int' },
  operations: (p) => 2 * p.rows * p.columns,
  divisions: (p) => dividedElements(p, { x: p.xPitch, y: p.columns }),
  webgpu: affineGpu,
  reference({ x, y }, p) {
    forEach(p, (r, c) => {
      y[r * p.columns + c] = p.scale * (x[r * p.xPitch + c] ?? NaN) + p.shift;
    });
  },
});

/** y[r, c] += x[r, c] */
export const accumulate = defineKernel('accumulate', {
  buffers: { x: input.float, y: inout.float },
  parameters: { rows: 'int', columns: 'int', xPitch: 'int', yPitch: 'int' },
  operations: (p) => p.rows * p.columns,
  divisions: (p) => dividedElements(p, { x: p.xPitch, y: p.yPitch }),
  webgpu: accumulateGpu,
  reference({ x, y }, p) {
    forEach(p, (r, c) => {
      const at = r * p.yPitch + c;
      y[at] = (y[at] ?? NaN) + (x[r * p.xPitch + c] ?? NaN);
    });
  },
});

function forEach({ rows, columns }: { rows: number; columns: number }, body: (row: number, column: number) => void): void {
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) body(r, c);
}

function fail(): never {
  throw new RangeError('elementwise: no function of this number');
}
