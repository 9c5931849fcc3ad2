import { describe, expect, test } from 'vitest';
import { exp, gelu, geluTanh, log, sigmoid, silu, softplus, tanh } from '../../src/ops/elementwise/elementwise.js';
import { unaryFunctions } from '../../src/ops/elementwise/functions.js';
import { tensor, withoutScope, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';

/** Distance of two neighbouring float32 numbers at the size of `value`, which must be normal. */
const unit = (value: number): number => 2 ** (Math.floor(Math.log2(Math.abs(value))) - 23);

/** 20,001 float32 numbers from low to high. */
const grid = (low: number, high: number): Float32Array =>
  Float32Array.from({ length: 20_001 }, (_, i) => low + ((high - low) * i) / 20_000);

/** 20,001 float32 numbers from low to high, evenly spaced in the exponent. */
const logarithmicGrid = (low: number, high: number): Float32Array => grid(Math.log(low), Math.log(high)).map(Math.exp);

// The errors that native/math.h states, in units in the last place of the result. The sigmoid divides by a sum of which the
// exponential is a part, silu multiplies by x: a rounding more each. softplus goes through log1p.
const functions = [
  { name: 'exp', f: exp, inputs: grid(-87.3, 88.7), units: 2 },
  { name: 'log', f: log, inputs: logarithmicGrid(1e-37, 1e38), units: 2 },
  { name: 'log', f: log, inputs: grid(0.5, 2), units: 2 },
  { name: 'sigmoid', f: sigmoid, inputs: grid(-80, 40), units: 4 },
  { name: 'silu', f: silu, inputs: grid(-80, 40), units: 5 },
  { name: 'softplus', f: softplus, inputs: grid(-80, 40), units: 6 },
  { name: 'tanh', f: tanh, inputs: grid(-10, 10), units: 4 },
  { name: 'gelu', f: gelu, inputs: grid(-12.5, 40), units: 6 },
  // Its tail is an e^−z: one rounding of z = 17 is 8 units of the result.
  { name: 'geluTanh', f: geluTanh, inputs: grid(-1, 40), units: 5 },
  { name: 'geluTanh', f: geluTanh, inputs: grid(-5, -1), units: 32 },
] as const;

describe.each(compiledKernels)('elementary functions of the %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const run = async (f: (x: Tensor) => Tensor, inputs: ArrayLike<number>) => {
    const x = withoutScope(() => tensor(backend(), inputs, [inputs.length]));
    const y = withoutScope(() => f(x));
    const values = await y.data();
    x.dispose();
    y.dispose();
    return values;
  };

  test.each(functions)('$name is within $units units in the last place', async ({ name, f, inputs, units }) => {
    const values = await run(f, inputs);
    let worst = 0;
    let at = NaN;
    inputs.forEach((x, i) => {
      const right = unaryFunctions[name].value(x);
      // Below the normal numbers there are no units to count; what is exact has no error.
      if (Math.abs(right) < 2 ** -126) return;
      const error = Math.abs((values[i] ?? NaN) - right) / unit(right);
      if (!(error <= worst)) [worst, at] = [error, x];
    });
    expect(worst, `worst error, at ${at}`).toBeLessThanOrEqual(units);
  });

  test('special values', async () => {
    expect([...(await run(exp, [-Infinity, -104, -88, 0, 89, Infinity, NaN]))]).toEqual([0, 0, 0, 1, Infinity, Infinity, NaN]);
    expect([...(await run(log, [0, 1, Infinity, NaN]))]).toEqual([-Infinity, 0, Infinity, NaN]);
    expect((await run(log, [-1]))[0]).toBeNaN();
    expect([...(await run(softplus, [-Infinity, 21, 1000]))]).toEqual([0, 21, 1000]);
    expect([...(await run(tanh, [-Infinity, 0, Infinity]))]).toEqual([-1, 0, 1]);
    expect([...(await run(sigmoid, [-Infinity, 0, Infinity]))]).toEqual([0, 0.5, 1]);
    for (const f of [gelu, geluTanh]) expect([...(await run(f, [-1e30, -40, 0, 40, 1e30, Infinity, NaN]))]).toEqual([-0, -0, 0, 40, Math.fround(1e30), Infinity, NaN]);
  });
});
