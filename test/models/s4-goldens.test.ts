/** S4 and S4D as the official code computes them in float64: how they start, kernels, blocks, and the minimal S4D network. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { S4Block } from '../../src/mixers/index.js';
import { s4Config, type S4Activation, type S4Config, type S4Init } from '../../src/mixers/s4/config.js';
import { clippedB, diagonalNames, diagonalStates, dplrHippo, hippo, hippoNames } from '../../src/mixers/s4/hippo.js';
import { StateSpace } from '../../src/mixers/s4/parameters.js';
import { Linear, Norm, ParameterStore, type Pass } from '../../src/nn/index.js';
import { add, affine, crossEntropy, mean, multiply, sum, zeros } from '../../src/ops/index.js';
import { truncatedOutput } from '../../src/ops/s4/kernel.js';
import { keep, scope, tensor, withoutScope, type Backend, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { read } from '../support/models.js';

const open = (file: string) => new Goldens(goldenPath(`s4/${file}`));
const listOf = <T>(file: string) => JSON.parse(readFileSync(goldenPath(`s4/${file}`), 'utf8')) as T[];

/** Options in the official code's words. */
interface Words {
  readonly d_model: number;
  readonly d_state: number;
  readonly channels?: number;
  readonly init: S4Init;
  readonly disc?: 'zoh' | 'bilinear' | 'dss';
  readonly dt_transform: 'exp' | 'softplus';
  readonly is_real?: boolean;
  readonly bidirectional?: boolean;
  readonly gate?: number;
  readonly gate_act?: string;
  readonly mult_act?: string | null;
  readonly activation?: string;
  readonly final_act?: 'glu' | 'id' | null;
}

const activation = (name: string | null | undefined) => (name === undefined || name === null || name === 'id' ? 'none' : name) as S4Activation;

function configOf(words: Words, golden: Goldens, kernelLength: number, prefix: string): S4Config {
  const { d_model: dModel, d_state: dState, channels = 1, init, disc = 'bilinear', dt_transform: dtTransform } = words;
  const [sets = 0] = golden.shape(`${prefix}A_real`);
  return s4Config({
    ...{ dModel, dState, channels, init, sets, dtTransform, kernelLength, real: words.is_real ?? false, bidirectional: words.bidirectional ?? false },
    ...{ discretization: disc === 'dss' ? 'zoh' : disc, dss: disc === 'dss', gate: words.gate ?? 0, gateActivation: activation(words.gate_act) },
    ...{ multActivation: activation(words.mult_act), activation: activation(words.activation ?? 'gelu') },
    output: words.final_act === 'glu' ? 'glu' : words.final_act === 'id' ? 'linear' : 'none',
  });
}

const dispose = (...tensors: readonly (Tensor | null | undefined)[]) => {
  for (const one of tensors) one?.dispose();
};

const largest = (values: ArrayLike<number>) => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe('how states start', () => {
  const golden = open('init.safetensors');
  // 'legs' of the diagonal ones went through float32.
  const close = (name: string, actual: readonly number[], limit = 1e-13) => {
    expectClose(actual, golden.floats(name), limit, name);
  };

  test.each(hippoNames.flatMap((name) => [4, 8, 16].map((states) => [name, states] as const)))('%s of %i states', (name, states) => {
    const at = `${name}.${states}`;
    const { A, B, P } = hippo(name, states);
    close(`hippo.${at}.A`, A.flat());
    close(`hippo.${at}.B`, [...B]);
    close(`hippo.${at}.P`, P.flat());
    const dplr = dplrHippo(name, states);
    const size = ([re, im]: readonly [number, number]) => Math.hypot(re, im);
    close(`nplr.${at}.Lambda`, dplr.lambda.flat());
    close(`nplr.${at}.absB`, dplr.B.map(size));
    close(`nplr.${at}.absP`, dplr.P.flat().map(size));
    close(`nplr.${at}.PconjB`, dplr.P.flatMap((row) => row.flatMap(([re, im], n) => {
      const [bre, bim] = dplr.B[n] ?? [NaN, NaN];
      return [re * bre + im * bim, re * bim - im * bre];
    })));
    // V·(Λ − P·P*)·V* is A again.
    const rebuilt = A.map((row, i) => row.map((_, j) => {
      const normal = dplr.V.reduce((total, column, n) => {
        const [[ar, ai], [br, bi], [lr, li]] = [column[i] ?? [NaN, NaN], column[j] ?? [NaN, NaN], dplr.lambda[n] ?? [NaN, NaN]];
        return total + 2 * ((ar * br + ai * bi) * lr - (ai * br - ar * bi) * li);
      }, 0);
      return P.reduce((total, one) => total - (one[i] ?? NaN) * (one[j] ?? NaN), normal);
    }));
    close(`hippo.${at}.A`, rebuilt.flat());
  });

  test.each(diagonalNames.flatMap((name) => [4, 8, 16].map((states) => [name, states] as const)))('diagonal %s of %i states', (name, states) => {
    const { A, B } = diagonalStates(name, states);
    close(`diag.${name}.${states}.A`, A.flat(), name === 'legs' ? 1e-6 : 1e-13);
    // B is V*·B of an arbitrary phase there.
    if (name !== 'legs') close(`diag.${name}.${states}.B`, B.flat());
  });

  test('imaginary parts of B are clipped', () => {
    expect(clippedB([[3, 1], [0, -5], [1, 2.5]])).toEqual([[3, 1], [0, -2], [1, 2]]);
  });

  test('256 states', () => {
    const { lambda, P } = dplrHippo('legs', 256);
    expect(lambda.every(([re, im]) => Math.abs(re + 0.5) < 1e-9 && im < 0)).toBe(true);
    // |P|² over all states is the trace of PᵀP, 2·Σ over half of them.
    expect(2 * (P[0] ?? []).reduce((total, [re, im]) => total + re * re + im * im, 0)).toBeCloseTo(256 ** 2 / 2, 6);
  });
});

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-10 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-4 })),
];

/** A store whose parameters are a golden's. */
const storeOf = (backend: Backend, golden: Goldens, keyOf: (key: string) => string) =>
  new ParameterStore((key, { shape }) => {
    expect(golden.shape(keyOf(key)), key).toEqual(shape);
    return tensor(backend, golden.floats(keyOf(key)), shape);
  });

describe.each(runs)('on $on', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  /** Gradients are held against the largest of all: those by a state that hardly decays are nothing but rounding beside it. */
  async function expectGradients(gradients: readonly (Tensor | null)[], golden: Goldens, keys: readonly string[], within = limit): Promise<void> {
    const scale = Math.max(...keys.map((key) => largest(golden.floats(key))));
    for (const [i, key] of keys.entries()) {
      const expected = golden.floats(key);
      const actual = (await gradients[i]?.exactData()) ?? new Float64Array();
      expect(actual.length, key).toBe(expected.length);
      const error = largest(actual.map((value, j) => value - (expected[j] ?? NaN))) / scale;
      expect(error, key).toBeLessThan(within);
    }
  }

  describe('kernels', () => {
    interface Kernel {
      readonly name: string;
      readonly file: string;
      readonly kind: 'diag' | 'dplr';
      readonly lengths: readonly number[];
      readonly options: Words;
    }
    const all = listOf<Kernel>('kernels.json').flatMap((one) =>
      (one.kind === 'dplr' ? (['C̃', 'C'] as const) : (['C'] as const)).flatMap((stored) => one.lengths.map((length) => ({ ...one, golden: open(one.file), stored, length }))),
    );
    test.each(all)('$name of $length positions from $stored', async ({ golden, options: words, stored, length }) => {
      const truncated = stored === 'C̃';
      const config = configOf(words, golden, truncated ? length : 0, 'param.');
      const store = storeOf(backend(), golden, (key) => (key === 'C' && truncated ? `L${length}.C_tilde` : `param.${key}`));
      const space = new StateSpace(store, config);
      const dK = tensor(backend(), golden.floats(`L${length}.dK`), golden.shape(`L${length}.dK`));
      expectClose(await read(() => space.kernel(length)), golden.floats(`L${length}.K`), limit, 'K');
      const { value, gradients } = valueAndGradients(store.all.map((one) => one.tensor), () => sum(multiply(space.kernel(length), dK)));
      const of = config.rank > 0 && !truncated ? 'true.grad' : 'grad';
      // Gradients by Δ and A are what is left of sums over the nodes that cancel: float32 spectra give them to four digits or so.
      const within = config.rank > 0 && kind !== 'reference' ? 1e-3 : limit;
      await expectGradients(gradients, golden, store.all.map(({ key }) => `L${length}.${of}.${key}`), within);
      if (truncated) expectClose(await read(() => space.trueOutputs()), golden.floats('param.C'), limit, 'C');
      else if (config.rank > 0) {
        const tilde = await read(() => truncatedOutput(space.outputs(), space.system(), length));
        expectClose(tilde, golden.floats(`L${length}.C_tilde`), limit, 'C̃');
      }
      dispose(dK, value, ...gradients, ...store.all.map((one) => one.tensor));
    });
  });

  describe('blocks', () => {
    interface Golden {
      readonly file: string;
      readonly shape: readonly [batch: number, length: number, width: number];
      readonly options: Words;
    }
    const lengthKey = 'buffer.layer.kernel.l_kernel';
    test.each(listOf<Golden>('blocks.json'))('$file', async ({ file, options: words, shape }) => {
      const golden = open(file);
      const kernelLength = golden.keys.includes(lengthKey) ? (golden.integers(lengthKey)[0] ?? 0) : 0;
      const config = configOf(words, golden, kernelLength, 'param.layer.kernel.');
      const store = storeOf(backend(), golden, (key) => `param.${key}`);
      const block = new S4Block(store, config);
      expect(store.all.map(({ key }) => `param.${key}`).sort()).toEqual(golden.keys.filter((key) => key.startsWith('param.')).sort());
      const [batch] = shape;
      const on = (key: string, of: readonly number[] = golden.shape(key)) => tensor(backend(), golden.floats(key), of);
      const x = on('x');
      // States of 'fout' hardly decay: C̃ holds little of C, and what is worked out of it is a ten thousandth as exact.
      const within = words.init === 'fout' && kind !== 'reference' ? 1e-3 : limit;

      /** Checks a pass's output and its gradients. */
      async function check(pass: Pass, by: readonly Tensor[], cotangent: string, output: string, keys: readonly string[]): Promise<void> {
        const dy = on(cotangent);
        let y: Tensor | undefined;
        const { value, gradients } = valueAndGradients(by, () => {
          const made = block.forward(x, pass);
          withoutScope(() => (y = keep(made.retain())));
          return sum(multiply(made, dy));
        });
        expectClose((await y?.exactData()) ?? [], golden.floats(output), within, output);
        await expectGradients(gradients, golden, keys, within);
        dispose(dy, y, value, ...gradients);
      }

      await check({}, [x, ...store.all.map((one) => one.tensor)], 'dy', 'y', ['d_x', ...store.all.map(({ key }) => `grad.${key}`)]);
      if (golden.keys.includes('state0')) {
        const ssm = zeros(backend(), [batch, ...(block.slots['ssm']?.shape ?? [])]);
        const after = { ssm };
        expectClose(await read(() => block.forward(x, { after })), golden.floats('y'), limit, 'y of the recurrence');
        expectClose(await ssm.exactData(), golden.floats('final_state'), limit, 'final state');
        const state0 = on('state0');
        await check({ before: { ssm: state0 }, after }, [x, state0], 'dy_from_state0', 'y_from_state0', ['from_state0.d_x', 'from_state0.d_state0']);
        expectClose(await ssm.exactData(), golden.floats('final_from_state0'), within, 'final state from state0');
        dispose(ssm, state0);
      }
      dispose(x, ...store.all.map((one) => one.tensor));
    });
  });

  test('the minimal S4D network', async () => {
    const golden = open('s4d-classifier.safetensors');
    const width = golden.shape('param.encoder.weight')[0] ?? 0;
    const states = 2 * (golden.shape('param.s4_layers.0.kernel.C')[1] ?? 0);
    const [batch = 0, length = 0, inputs = 0] = golden.shape('x');
    /** Its names of our parameters; it has no B, and its A_imag is Im A. */
    const names: readonly (readonly [ours: RegExp, theirs: string])[] = [
      [/\.layer\.D$/, '.D'], [/\.layer\.kernel\.C$/, '.kernel.C'], [/\.layer\.kernel\.inv_dt$/, '.kernel.log_dt'],
      [/\.layer\.kernel\.A_real$/, '.kernel.log_A_real'], [/\.layer\.kernel\.A_imag$/, '.kernel.A_imag'],
    ];
    const theirs = (key: string) => names.reduce((name, [ours, other]) => name.replace(ours, other), key);
    const sign = (key: string) => (key.endsWith('A_imag') ? -1 : 1);
    const store = new ParameterStore((key, { shape }) => {
      const B = Array.from({ length: shape.reduce((product, extent) => product * extent, 1) }, (_, i) => 1 - (i % 2));
      return tensor(backend(), key.endsWith('kernel.B') ? B : golden.floats(`param.${theirs(key)}`).map((value) => sign(key) * value), shape);
    });
    const encoder = new Linear(store.at('encoder'), { inputs, outputs: width, bias: true });
    const config = s4Config({ dModel: width, dState: states, init: 'diag-lin' });
    const layers = [0, 1].map((i) => ({
      block: new S4Block(store.at('s4_layers').at(String(i)), config),
      norm: new Norm(store.at('norms').at(String(i)), { size: width, kind: 'layer', epsilon: 1e-5 }),
    }));
    const decoder = new Linear(store.at('decoder'), { inputs: width, outputs: golden.shape('logits')[1] ?? 0, bias: true });
    const x = tensor(backend(), golden.floats('x'), [batch, length, inputs]);
    const target = tensor(backend(), golden.integers('target'), [batch], 'i32');
    const seen: Tensor[] = [];
    const { value, gradients } = valueAndGradients([x, ...store.all.map((one) => one.tensor)], () => {
      let hidden: Tensor = encoder.forward(x);
      for (const { block, norm } of layers) {
        // After the residual sum, as the example has it.
        hidden = norm.forward(add(block.forward(hidden), hidden), null).y;
        const made = hidden;
        withoutScope(() => seen.push(keep(made.retain())));
      }
      const logits = decoder.forward(mean(hidden, 1));
      withoutScope(() => seen.push(keep(logits.retain())));
      return crossEntropy(logits, target);
    });
    for (const [i, key] of ['hidden.0', 'hidden.1', 'logits'].entries()) expectClose((await seen[i]?.exactData()) ?? [], golden.floats(key), limit, key);
    for (const [i, { block }] of layers.entries()) expectClose(await read(() => block.space.kernel(length)), golden.floats(`kernel.${i}`), limit, `kernel.${i}`);
    expectClose([await value.item()], golden.floats('loss'), limit, 'loss');
    for (const [i, key] of ['d_x', ...store.all.map((one) => one.key)].entries()) {
      if (key.endsWith('kernel.B')) continue;
      const expected = golden.floats(key === 'd_x' ? key : `grad.${theirs(key)}`).map((one) => sign(key) * one);
      expectClose((await gradients[i]?.exactData()) ?? [], expected, limit, key);
    }
    dispose(x, target, value, ...seen, ...gradients, ...store.all.map((one) => one.tensor));
  });

  test('kernels of other lengths than that of C̃', async () => {
    const golden = open('kernel-dplr-legs.safetensors');
    const [{ options: words }] = listOf<{ options: Words }>('kernels.json') as [{ options: Words }];
    // 8 positions of what 17 are known of; 64 of what 8 are, doubled; 31 the same, cut.
    for (const [known, length] of [[17, 8], [8, 64], [8, 31]] as const) {
      const store = storeOf(backend(), golden, (key) => (key === 'C' ? `L${known}.C_tilde` : `param.${key}`));
      const space = new StateSpace(store, configOf(words, golden, known, 'param.'));
      expectClose(await read(() => space.kernel(length)), golden.floats(`L${length}.K`), limit, `${length} of ${known}`);
      dispose(...store.all.map((one) => one.tensor));
    }
  });

  test('no gradient goes through C that is worked out of C̃', () => {
    const golden = open('block-s4.safetensors');
    const [{ options: words }] = listOf<{ options: Words }>('blocks.json') as [{ options: Words }];
    const store = storeOf(backend(), golden, (key) => `param.${key}`);
    const block = new S4Block(store, configOf(words, golden, golden.integers('buffer.layer.kernel.l_kernel')[0] ?? 0, 'param.layer.kernel.'));
    const [x, after] = [tensor(backend(), golden.floats('x'), golden.shape('x')), { ssm: zeros(backend(), [2, 4, 4, 2]) }];
    const gradients = () => valueAndGradients([block.space.C.tensor], () => sum(affine(block.forward(x, { after }), 1)));
    expect(() => scope(gradients)).toThrow(/trueOutput: is not differentiable/);
    dispose(x, after.ssm, ...store.all.map((one) => one.tensor));
  });
});
