/** Sampling rates and irregular times: S4, S4D and S6 against the continuous system they stand for. */
import { describe, expect, test } from 'vitest';
import { S4Block, s4Config, type S4Init, type S4Options, type S4Pass } from '../../src/mixers/index.js';
import { initialParameters, ParameterStore } from '../../src/nn/index.js';
import { ltiScan, selectiveScan, selectiveScanStep, zeros } from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { matrixExponential, multiplied } from '../support/matrix-exponential.js';
import { read } from '../support/models.js';

/** Where x′ = a·x + b·u, complex, is a time later, with u held meanwhile. */
function held([re, im]: [number, number], [ar, ai]: [number, number], [br, bi]: [number, number], u: number, time: number): [number, number] {
  const system = [[ar, -ai, br * u], [ai, ar, bi * u], [0, 0, 0]].map((row) => row.map((value) => value * time));
  const [[x = NaN] = [], [y = NaN] = []] = multiplied(matrixExponential(system), [[re], [im], [1]]);
  return [x, y];
}

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
];

describe.each(runs)('on $on', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);
  const on = (values: ArrayLike<number>, shape: readonly number[]) => tensor(backend(), values, shape);

  /** A block whose output is that of its state space. */
  async function withBlock(options: S4Options, body: (block: S4Block) => Promise<void>): Promise<void> {
    const store = new ParameterStore(initialParameters(backend(), 3));
    const block = new S4Block(store, s4Config({ activation: 'none', output: 'none', ...options }));
    try {
      await body(block);
    } finally {
      for (const { tensor: values } of store.all) values.dispose();
    }
  }

  const outputs = (block: S4Block, u: ArrayLike<number>, shape: readonly number[], pass: S4Pass = {}) => read(() => block.forward(on(u, shape), pass));

  /** Positions `first`, `first` + 2, … of [L,H]. */
  const everyOther = (y: ArrayLike<number>, width: number, first: number) => Array.from(y).filter((_, i) => Math.floor(i / width) % 2 === first);

  const slow = Array.from({ length: 128 }, (_, i) => Math.sin(0.1 * Math.floor(i / 2)) + (i % 2 === 1 ? Math.cos(0.23 * Math.floor(i / 2)) : 0));

  test('S4D at half the sampling rate: what is held for two positions is held for one', async () => {
    const pairs = Array.from({ length: 128 }, (_, i) => slow[2 * Math.floor(i / 4) * 2 + (i % 2)] ?? NaN);
    await withBlock({ dModel: 2, dState: 8, init: 'diag-lin', dtMin: 0.01 }, async (block) => {
      block.skip.tensor.write([0, 0]);
      const fine = await outputs(block, pairs, [1, 64, 2]);
      const coarse = everyOther(pairs, 2, 1);
      const expected = everyOther(fine, 2, 1);
      expectClose(await outputs(block, coarse, [1, 32, 2], { rate: 2 }), expected, limit, 'a convolution');
      const after = { ssm: zeros(backend(), [1, 2, 4, 2]) };
      expectClose(await outputs(block, coarse, [1, 32, 2], { rate: 2, after }), expected, limit, 'the recurrence');
      after.ssm.dispose();
    });
  });

  // The trapezoidal rule does not hold inputs: it agrees as far as the signal is smooth.
  test.each<readonly [S4Init, number]>([['legs', 0], ['legs', 64], ['fout', 0], ['diag-inv', 0]])('%s at half the sampling rate, kernel length %i', async (init, kernelLength) => {
    await withBlock({ dModel: 2, dState: 8, init, kernelLength, discretization: 'bilinear', dtMin: 0.01, dtMax: 0.03 }, async (block) => {
      block.skip.tensor.write([0, 0]);
      const coarse = everyOther(slow, 2, 1);
      const fine = await outputs(block, slow, [1, 64, 2]);
      const atHalf = await outputs(block, coarse, [1, 32, 2], { rate: 2 });
      const after = { ssm: zeros(backend(), [1, 2, 4, 2]) };
      const recurrent = await outputs(block, coarse, [1, 32, 2], { rate: 2, after });
      after.ssm.dispose();
      expectClose(atHalf, everyOther(fine, 2, 1), 0.15, 'at half the rate');
      // At a rate that nobody asks for, the system is another one.
      const deaf = await outputs(block, coarse, [1, 32, 2]);
      expect(Math.max(...deaf.map((value, i) => Math.abs(value - (atHalf[i] ?? NaN))))).toBeGreaterThan(0.2 * Math.max(...atHalf.map(Math.abs)));
      // A C̃ of 64 positions is that of 32 at half the rate but for the rule's error, and is used as such, as in the official code.
      expectClose(recurrent, atHalf, kernelLength === 0 ? 100 * limit : 0.01, 'the recurrence');
    });
  });

  test('gaps in time: S4D is where the continuous system is', async () => {
    const random = new Random(4);
    const steps = [1, 0.25, 3, 17.5, 1, 1, 0.01, 6];
    const u = steps.map(() => random.normal());
    const [a, b]: [number, number][] = [[-0.05, 0.7], [0.4, -0.2]];
    const expected: number[] = [];
    let x: [number, number] = [0.3, -0.1];
    for (const [i, time] of steps.entries()) {
      x = held(x, a as [number, number], b as [number, number], u[i] ?? NaN, time);
      // 2·Re(C·x) with C = 1
      expected.push(2 * x[0]);
    }
    const { y, finalState } = scope(() =>
      ltiScan(on(u, [1, 8, 1]), { change: on(a as number[], [1, 1, 2]), input: on(b as number[], [1, 1, 2]), C: on([1, 0], [1, 1, 1, 2]) }, { steps: on(steps, [1, 8]), initialState: on([0.3, -0.1], [1, 1, 1, 2]) }),
    );
    expectClose(await y.exactData(), expected, limit, 'y');
    expectClose(await finalState.exactData(), x, limit, 'state');
    y.dispose();
    finalState.dispose();
  });

  test('the trapezoidal rule over gaps nears the continuous system with their squares', async () => {
    const errors: number[] = [];
    for (const parts of [1, 2, 4]) {
      const count = 6 * parts;
      const steps = Array.from({ length: count }, () => 2 / parts);
      const exact = held([0, 0], [-0.05, 0.2], [1, 0], 1, 12);
      const y = await read(() =>
        ltiScan(on(new Array<number>(count).fill(1), [1, count, 1]), { change: on([-0.05, 0.2], [1, 1, 2]), input: on([1, 0], [1, 1, 2]), C: on([1, 0], [1, 1, 1, 2]) }, { steps: on(steps, [1, count]), discretization: 'bilinear' }).y,
      );
      errors.push(Math.abs((y.at(-1) ?? NaN) - 2 * exact[0]));
    }
    const [whole = NaN, half = NaN, quarter = NaN] = errors;
    expect(whole / half).toBeGreaterThan(3.5);
    expect(half / quarter).toBeGreaterThan(3.5);
    expect(whole / half).toBeLessThan(4.5);
  });

  test('a block takes times: a gap is as long as the steps it stands for', async () => {
    await withBlock({ dModel: 2, dState: 8, init: 'diag-inv' }, async (block) => {
      const times = [1, 1, 4, 1, 2, 1];
      const values = times.map((_, i) => [Math.sin(i), Math.cos(2 * i)]);
      const filled = times.flatMap((count, i) => Array.from({ length: count }, () => values[i] ?? []).flat());
      const whole = await outputs(block, filled, [1, 10, 2]);
      const ends = times.map((_, i) => times.slice(0, i + 1).reduce((sum, count) => sum + count, 0) - 1);
      const steps = on(times, [1, 6]);
      const y = await outputs(block, values.flat(), [1, 6, 2], { steps });
      expectClose(y, ends.flatMap((end) => [...whole.subarray(2 * end, 2 * end + 2)]), 10 * limit, 'y');
      steps.dispose();
    });
  });

  test('S6 with times: the zero-order hold is where the continuous system is', async () => {
    const random = new Random(5);
    const times = [1, 0.5, 12, 2, 0.125, 3];
    const normal = (count: number) => Array.from({ length: count }, () => random.normal());
    const [u, delta, B, C] = [normal(6), normal(6), normal(6), normal(6)];
    const bias = -0.5;
    const expected: number[] = [];
    let x: [number, number] = [0.2, 0];
    for (const [i, time] of times.entries()) {
      const step = Math.log1p(Math.exp((delta[i] ?? NaN) + bias));
      x = held(x, [-0.3, 0], [B[i] ?? NaN, 0], u[i] ?? NaN, step * time);
      expected.push((C[i] ?? NaN) * x[0]);
    }
    const operands = (from: number, to: number, shape: readonly number[]) => [u, delta, B, C].map((values) => on(values.slice(from, to), shape)) as [Tensor, Tensor, Tensor, Tensor];
    const shared = { deltaSoftplus: true, discretization: 'zoh' as const };
    const y = await read(() => {
      const [input, raw, weights, outputs] = operands(0, 6, [1, 6, 1]);
      return selectiveScan(input, raw, on([-0.3], [1, 1]), weights, outputs, { ...shared, deltaBias: on([bias], [1]), steps: on(times, [1, 6]), initialState: on([0.2], [1, 1, 1]) }).y;
    });
    expectClose(y, expected, limit, 'y');
    const state = on([0.2], [1, 1, 1]);
    for (const [i, time] of times.entries()) {
      const one = await read(() => {
        const [input, raw, weights, outputs] = operands(i, i + 1, [1, 1]);
        return selectiveScanStep(state, input, raw, on([-0.3], [1, 1]), weights, outputs, { ...shared, deltaBias: on([bias], [1]), steps: on([time], [1]) });
      });
      expectClose(one, expected.slice(i, i + 1), limit * 10, `step ${i}`);
    }
    state.dispose();
  });

  test('what is no recurrence, or not diagonal, says so', async () => {
    const x = on(new Array<number>(16).fill(1), [1, 8, 2]);
    const steps = on(new Array<number>(8).fill(1), [1, 8]);
    const after = { ssm: zeros(backend(), [1, 2, 4, 2]) };
    const cases: readonly (readonly [S4Options, S4Pass, RegExp])[] = [
      [{ dModel: 2, dState: 8, bidirectional: true }, { after }, /S4Block: bidirectional is true; expected false, for a state, documents or steps/],
      [{ dModel: 2, dState: 8, dss: true }, { steps }, /S4Block: dss is true; expected false/],
      [{ dModel: 2, dState: 8, init: 'legs' }, { steps }, /S4Block: steps is a tensor; expected none, where A is more than diagonal/],
    ];
    for (const [options, pass, message] of cases) {
      await withBlock(options, (block) => {
        expect(() => block.forward(x, pass)).toThrow(message);
        return Promise.resolve();
      });
    }
    expect(() => s4Config({ dModel: 2, dState: 7 })).toThrow(/dState is 7; expected an even number/);
    expect(() => s4Config({ dModel: 6, sets: 4 })).toThrow(/sets is 4; expected a divisor of dModel = 6/);
    expect(() => s4Config({ dModel: 2, init: 'legs', discretization: 'zoh' })).toThrow(/discretization is 'zoh'; expected 'bilinear'/);
    for (const one of [x, steps, after.ssm]) one.dispose();
  });
});
