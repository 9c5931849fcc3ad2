/** LSSL: goldens of the official code in float64, and what its three forms owe one another. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { Lssl, lsslConfig, type LsslConfig, type LsslMeasure, type LsslOptions } from '../../src/mixers/index.js';
import { lsslMeasures } from '../../src/mixers/lssl/config.js';
import { Transition } from '../../src/mixers/lssl/transition.js';
import { initialParameters, ParameterStore } from '../../src/nn/index.js';
import { multiply, sum, zeros } from '../../src/ops/index.js';
import { gbt } from '../../src/ops/lssl/gbt.js';
import { krylov, krylovKernel } from '../../src/ops/lssl/krylov.js';
import { keep, scope, tensor, withoutScope, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { matrixExponential } from '../support/matrix-exponential.js';
import { read } from '../support/models.js';

const open = (file: string) => new Goldens(goldenPath(`lssl/${file}`));
const operations = open('gbt.safetensors');

interface Golden {
  readonly file: string;
  readonly shape: readonly [batch: number, length: number, width: number];
  readonly d_model: number;
  readonly measure: LsslMeasure;
  readonly learn: 0 | 1 | 2;
  readonly channels: number;
  readonly bias: boolean;
  readonly dt_learn: boolean;
}
const layers = JSON.parse(readFileSync(goldenPath('lssl/layers.json'), 'utf8')) as Golden[];

const configOf = ({ shape: [, , dModel], d_model: dState, measure, learn, channels, bias, dt_learn: learnSteps }: Golden): LsslConfig =>
  lsslConfig({ dModel, dState, measure, learn, channels, bias, learnSteps });

/** Matrices [H,N,N] less or more the identity. */
const shifted = (values: ArrayLike<number>, size: number, by: number): number[] =>
  Array.from(values, (value, i) => value + (i % size === Math.floor((i / size) % size) ? by : 0));

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-10, within: 1e-10 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5, within: 1e-4 })),
];

describe.each(runs)('on $on', ({ kind, options, limit, within }) => {
  const backend = useBackend(kind, options);
  const on = (values: ArrayLike<number>, shape: readonly number[]) => tensor(backend(), values, shape);
  const golden = (from: Goldens, key: string) => on(from.floats(key), from.shape(key));

  test.each(lsslMeasures.flatMap((measure) => [4, 8].map((size) => [measure, size] as const)))('the matrices of %s, %i states', async (measure, size) => {
    const store = new ParameterStore((key, { shape, initialiser }) => {
      // The goldens' 'legt' is without noise.
      const values = initialiser(shape, new Random(1));
      return on(key === 'd' && measure === 'legt' ? values.map((_, n) => (n === 0 || n === size - 1 ? 0.5 : 0)) : values, shape);
    });
    const transition = new Transition(store, lsslConfig({ dModel: 3, dState: size, measure, learn: 0 }));
    // Parameters are made as float32 numbers.
    for (const name of ['A', 'B'] as const) expectClose(await read(() => transition.system()[name]), operations.floats(`${measure}.${size}.${name}`), 2e-6, name);
    for (const { tensor: values } of store.all) values.dispose();
  });

  test.each(lsslMeasures.flatMap((measure) => [4, 8].flatMap((size) => ['0.0', '0.25', '0.5', '1.0'].map((alpha) => [measure, size, alpha] as const))))(
    'the generalised bilinear transform of %s, %i states, α %s',
    async (measure, size, alpha) => {
      const at = `${measure}.${size}`;
      const system = () =>
        scope(() => {
          const A = operations.floats(`${at}.A`);
          return gbt({ A: on(A, [1, size, size]), B: on(operations.floats(`${at}.B`), [1, size]) }, golden(operations, `${at}.dt`), Number(alpha));
        });
      const change = await read(() => system().change);
      expectClose(shifted(change, size, 1), operations.floats(`${at}.alpha${alpha}.A_bar`), limit, 'Ā');
      expectClose(await read(() => system().input), operations.floats(`${at}.alpha${alpha}.B_bar`), limit, 'B̄');
    },
  );

  test.each([1, 2, 3, 7, 16, 33])('Krylov matrix and kernel of %i positions', async (length) => {
    const at = `krylov.${length}`;
    const [features = 0, size = 0] = operations.shape(`${at}.b`);
    const system = () => ({ change: on(shifted(operations.floats(`${at}.A`), size, -1), [features, size, size]), input: on(operations.floats(`${at}.b`), [features, size, 1]) });
    expectClose(await read(() => krylov(system(), length)), operations.floats(`${at}.K`), limit, 'K');
    const c = () => on(operations.floats(`${at}.c`), [features, 1, size]);
    expectClose(await read(() => krylovKernel(c(), system(), length)), operations.floats(`${at}.k`), limit, 'k');
  });

  describe.each(layers)('$file', (described) => {
    const values = open(described.file);
    const config = configOf(described);
    const [batch, length, features] = described.shape;
    const keyOf = (key: string) => (values.keys.includes(`param.${key}`) ? `param.${key}` : `buffer.${key}`);
    async function withLayer(body: (layer: Lssl, store: ParameterStore) => Promise<void>): Promise<void> {
      const store = new ParameterStore((key, { shape }) => {
        expect(values.shape(keyOf(key)), key).toEqual(shape);
        return golden(values, keyOf(key));
      });
      await body(new Lssl(store, config), store);
      for (const { tensor: one } of store.all) one.dispose();
    }

    test('convolution: system, kernel, output, gradients', async () => {
      await withLayer(async (layer, store) => {
        const stored = values.keys.filter((key) => /^(param|buffer)\./.test(key));
        expect(store.all.map(({ key }) => keyOf(key)).sort()).toEqual(stored.sort());
        expectClose(shifted(await read(() => layer.discrete().change), config.dState, 1), values.floats('A_bar'), within, 'Ā');
        expectClose(await read(() => layer.discrete().input), values.floats('B_bar'), within, 'B̄');
        expectClose(await read(() => krylov(layer.discrete(), length)), values.floats('K'), within, 'K');
        const [x, dy] = [golden(values, 'x'), golden(values, 'dy')];
        let y: Tensor | undefined;
        const { value, gradients } = valueAndGradients([x, ...store.all.map((one) => one.tensor)], () => {
          const made = layer.forward(x);
          withoutScope(() => (y = keep(made.retain())));
          return sum(multiply(made, dy));
        });
        expectClose((await y?.exactData()) ?? [], values.floats('y'), within, 'y');
        expectClose([await value.item()], values.floats('loss'), within, 'loss');
        for (const [i, key] of ['d_x', ...store.all.map((one) => `grad.${one.key}`)].entries()) {
          const gradient = gradients[i] ?? null;
          // What is not learned has none.
          expect(gradient !== null, key).toBe(values.keys.includes(key));
          if (gradient !== null) expectClose(await gradient.exactData(), values.floats(key), within, key);
        }
        for (const one of [x, dy, y, value, ...gradients]) one?.dispose();
      });
    });

    test('recurrence, in one piece, in two and by steps', async () => {
      await withLayer(async (layer) => {
        const x = values.floats('x');
        const state = zeros(backend(), [batch, features, config.dState]);
        expectClose(await read(() => layer.forward(golden(values, 'x'), { after: { ssm: state } })), values.floats('y'), within, 'y');
        expectClose(await state.exactData(), values.floats('final_state'), within, 'final state');

        /** Positions of every sequence. */
        const piece = (of: ArrayLike<number>, from: number, to: number) =>
          Array.from({ length: batch }, (_, b) => Array.from(of).slice((b * length + from) * features, (b * length + to) * features)).flat();
        const cut = 5;
        const first = await read(() => layer.forward(on(piece(x, 0, cut), [batch, cut, features]), { after: { ssm: state } }));
        expectClose(first, piece(values.floats('y'), 0, cut), within, 'the first piece');
        const other = zeros(backend(), state.shape);
        const second = await read(() => layer.forward(on(piece(x, cut, length), [batch, length - cut, features]), { before: { ssm: state }, after: { ssm: other } }));
        expectClose(second, piece(values.floats('y'), cut, length), within, 'the second piece');
        expectClose(await other.exactData(), values.floats('final_state'), within, 'final state of pieces');

        const constants = withoutScope(() => layer.constants());
        for (let t = cut; t < length; t++) {
          const y = await read(() => {
            const input = on(piece(x, t, t + 1), [batch, features]);
            return layer.step({ value: () => input, project: (linear) => linear.forward(input) }, { memory: { ssm: state }, constants });
          });
          expectClose(y, piece(values.floats('y'), t, t + 1), within, `step ${t}`);
        }
        expectClose(await state.exactData(), values.floats('final_state'), within, 'final state of steps');
        for (const one of [state, other, constants.step]) one.dispose();
      });
    });
  });

  /** A layer with parameters of its own. */
  async function withOwn(given: LsslOptions, body: (layer: Lssl, store: ParameterStore) => Promise<void>): Promise<void> {
    const store = new ParameterStore(initialParameters(backend(), 3));
    await body(new Lssl(store, lsslConfig(given)), store);
    for (const { tensor: one } of store.all) one.dispose();
  }
  const waves = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(0.7 * i) + 0.3);
  const wave = (shape: readonly number[]) => on(waves(shape.reduce((a, b) => a * b, 1)), shape);

  test.each(lsslMeasures)('%s: documents in one row are as if each were alone', async (measure) => {
    await withOwn({ dModel: 3, dState: 5, channels: 2, measure, learn: 2, bias: true }, async (layer) => {
      const whole = await read(() => {
        const starts = tensor(backend(), [0, 0, 0, 1, 0, 0, 7], [1, 7], 'i32');
        return layer.forward(wave([1, 7, 3]), { starts });
      });
      const alone = async (from: number, to: number) => [...(await read(() => layer.forward(on(waves(21).subarray(3 * from, 3 * to), [1, to - from, 3]))))];
      expectClose(whole, [...(await alone(0, 3)), ...(await alone(3, 6)), ...(await alone(6, 7))], within, 'y');
    });
  });

  test('a rate multiplies Δ in Ā and B̄, in both forms', async () => {
    const outputs: Float64Array[] = [];
    await withOwn({ dModel: 2, dState: 6, dtMin: 0.05, dtMax: 0.05 }, async (layer) => {
      outputs.push(await read(() => layer.forward(wave([2, 9, 2]), { rate: 2 })));
      outputs.push(await read(() => layer.forward(wave([2, 9, 2]), { rate: 2, after: { ssm: zeros(backend(), [2, 2, 6]) } })));
    });
    await withOwn({ dModel: 2, dState: 6, dtMin: 0.1, dtMax: 0.1 }, async (layer) => {
      const expected = await read(() => layer.forward(wave([2, 9, 2])));
      for (const actual of outputs) expectClose(actual, expected, Math.max(within, 1e-6), 'y');
    });
  });

  test('the trapezoidal rule nears the continuous system with the square of Δ', async () => {
    const [size, time] = [4, 3];
    await withOwn({ dModel: 1, dState: size, dtMin: 1, dtMax: 1 }, async (layer) => {
      const A = await read(() => layer.transition.system().A);
      const B = await read(() => layer.transition.system().B);
      const augmented = [...Array.from(B, (b, i) => [...A.subarray(i * size, (i + 1) * size), b]), new Array<number>(size + 1).fill(0)];
      // The state after an input of 1 all the time.
      const exact = matrixExponential(augmented.map((row) => row.map((value) => value * time))).slice(0, size).map((row) => row[size] ?? NaN);
      const errors: number[] = [];
      for (const rate of [1 / 32, 1 / 64, 1 / 128]) {
        const length = time / rate;
        const ssm = zeros(backend(), [1, 1, size]);
        await read(() => layer.forward(on(new Array<number>(length).fill(1), [1, length, 1]), { rate, after: { ssm } }));
        errors.push(Math.max(...(await ssm.exactData()).map((value, n) => Math.abs(value - (exact[n] ?? NaN)))));
        ssm.dispose();
      }
      const [whole = NaN, half = NaN, quarter = NaN] = errors;
      expect(whole).toBeLessThan(1e-3);
      // float32 adds errors of its own.
      const [least, most] = kind === 'reference' ? [3.9, 4.1] : [3, 5];
      for (const ratio of [whole / half, half / quarter]) {
        expect(ratio).toBeGreaterThan(least);
        expect(ratio).toBeLessThan(most);
      }
    });
  });

  test('one A for each feature: its gradients add up to those of one for all', async () => {
    const sums = new Map<string, number[]>();
    for (const learn of [1, 2] as const) {
      await withOwn({ dModel: 3, dState: 4, learn }, async (layer, store) => {
        const x = wave([1, 6, 3]);
        const { value, gradients } = valueAndGradients(store.all.map((one) => one.tensor), () => sum(layer.forward(x)));
        for (const [i, { key, tensor: { columns } }] of store.all.entries()) {
          if (!key.startsWith('transition.')) continue;
          const gradient = Array.from((await gradients[i]?.exactData()) ?? []);
          const total = Array.from({ length: columns }, (_, n) => gradient.reduce((all, one, j) => all + (j % columns === n ? one : 0), 0));
          if (learn === 1) sums.set(key, total);
          else expectClose(total, sums.get(key) ?? [], within, key);
        }
        for (const one of [x, value, ...gradients]) one?.dispose();
      });
    }
    expect([...sums.keys()].sort()).toEqual(['b', 'c', 'd', 'dl', 'du', 'pl', 'pr'].map((name) => `transition.${name}`));
  });
});

describe('where products are rounded to bfloat16', () => {
  const [rounding, exact] = [useBackend('reference', { precision: 'bf16' }), useBackend('reference')];

  // Products of few rows never are: these have more.
  test.each(lsslMeasures)('%s: a kernel is not', async (measure) => {
    const kernels: Float64Array[] = [];
    for (const backend of [rounding(), exact()]) {
      const store = new ParameterStore(initialParameters(backend, 3));
      const layer = new Lssl(store, lsslConfig({ dModel: 2, dState: 12, measure }));
      kernels.push(await read(() => layer.kernel(40)));
      for (const { tensor: one } of store.all) one.dispose();
    }
    expect(kernels[0]).toEqual(kernels[1]);
  });
});

test.each([
  [{ dModel: 0 }, /lsslConfig: dModel is 0; expected an integer from 1 to/],
  [{ dModel: 2, dState: 257 }, /dState is 257; expected an integer from 1 to 256/],
  [{ dModel: 2, measure: 'fout' as LsslMeasure }, /measure is 'fout'; expected one of legs, legt, lagt/],
  [{ dModel: 2, learn: 3 as 2 }, /learn is 3; expected 0, 1 or 2/],
  [{ dModel: 2, dtMin: 0.5 }, /dtMin is 0.5; expected a positive number of at most dtMax/],
])('%o is refused', (options: LsslOptions, message) => {
  expect(() => lsslConfig(options)).toThrow(message);
});
