import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Tape, valueAndGradients, recompute } from '../../src/autograd/index.js';
import { openBackend } from '../../src/backend/open.js';
import { ReferenceBackend } from '../../src/backend/reference/reference-backend.js';
import type { LanguageModel, State } from '../../src/models/index.js';
import * as nn from '../../src/nn/index.js';
import { blockStep } from '../../src/ops/block-step/block-step.js';
import { ssdBlockStep } from '../../src/ops/block-step/ssd-block-step.js';
import { accumulateInto } from '../../src/ops/elementwise/elementwise.js';
import * as ops from '../../src/ops/index.js';
import { rmsNormLinear } from '../../src/ops/norm-linear/norm-linear.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, scope, sizeOf, tensor, Tensor, type Backend, type DType, type Shape } from '../../src/tensor/index.js';
import { ArgumentError, BackendError, DisposedError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { useBackend } from '../support/backends.js';
import { smallModel } from '../support/models.js';

type Tensors = Record<string, Tensor>;

/** A call that is right, from which the wrong ones are made. */
interface Call {
  /** Shape and dtype (default f32) by argument; one with `?` may be null. */
  readonly tensors: Readonly<Record<string, readonly [shape: Shape, dtype?: 'i32' | 'int8']>>;
  readonly run: (given: Tensors) => unknown;
}

const call = (tensors: Call['tensors'], run: Call['run']): Call => ({ tensors, run });
const x: Call['tensors'] = { x: [[2, 3]] };
const pair: Call['tensors'] = { a: [[2, 3]], b: [[2, 3]] };
const store = (backend: Backend) => new nn.ParameterStore(nn.initialParameters(backend, 1));

/** A layer, whose parameters are freed with the call. */
function layer<T>(backend: Backend, make: (parameters: nn.ParameterStore) => T, run: (layer: T) => unknown): unknown {
  const parameters = store(backend);
  const made = make(parameters);
  try {
    return run(made);
  } finally {
    for (const { tensor: parameter } of parameters.all) parameter.dispose();
  }
}

/** Every public operation, by the name that its errors give it. */
const calls: Readonly<Record<string, Call>> = {
  ...Object.fromEntries(
    (['negate', 'exp', 'log', 'square', 'sqrt', 'reciprocal', 'sigmoid', 'silu', 'softplus', 'tanh', 'relu', 'gelu', 'geluTanh', 'softmax', 'logSoftmax', 'sum', 'mean', 'max'] as const)
      .map((name) => [name, call(x, (t) => ops[name](t['x'] as Tensor))]),
  ),
  ...Object.fromEntries((['add', 'subtract', 'multiply', 'divide'] as const).map((name) => [name, call(pair, (t) => ops[name](t['a'] as Tensor, t['b'] as Tensor))])),
  gated: call({ gate: [[2, 3]], up: [[2, 3]] }, (t) => ops.gated(t['gate'] as Tensor, t['up'] as Tensor, 'silu')),
  affine: call(x, ({ x }) => ops.affine(x as Tensor, 2, 1)),
  accumulateInto: call({ x: [[2, 3]], y: [[2, 3]] }, (t) => { accumulateInto(t['x'] as Tensor, t['y'] as Tensor); }),
  globalNorm: call(x, ({ x }) => ops.globalNorm(x as Tensor)),
  matmul: call({ a: [[2, 3]], b: [[3, 4]] }, (t) => ops.matmul(t['a'] as Tensor, t['b'] as Tensor)),
  solve: call({ matrix: [[2, 3, 3]], right: [[2, 3, 4]] }, (t) => ops.solve(t['matrix'] as Tensor, t['right'] as Tensor)),
  linear: call({ x: [[2, 3]], weight: [[4, 3]], 'bias?': [[4]] }, (t) => ops.linear(t['x'] as Tensor, t['weight'] as Tensor, t['bias?'])),
  routeTokens: call({ x: [[2, 3]], gate: [[3, 4]] }, (t) => ops.routeTokens(t['x'] as Tensor, t['gate'] as Tensor, { capacityFactor: 1, losses: { balance: 1, z: 1 } })),
  packWeight: call({ weight: [[4, 3]] }, (t) => ops.packWeight(t['weight'] as Tensor, 'int8')),
  unpackWeight: call({ packed: [[4, 3], 'int8'] }, (t) => ops.unpackWeight(t['packed'] as Tensor)),
  copyInto: call({ source: [[2, 3]], destination: [[2, 3]] }, (t) => { copyInto(t['source'] as Tensor, t['destination'] as Tensor); }),
  contiguous: call({ x: [[2, 3]] }, (t) => ops.contiguous(t['x'] as Tensor)),
  cast: call({ x: [[2, 3]] }, (t) => ops.cast(t['x'] as Tensor, 'f32')),
  reshape: call({ x: [[2, 3]] }, (t) => ops.reshape(t['x'] as Tensor, [3, -1])),
  split: call({ x: [[2, 3]] }, (t) => ops.split(t['x'] as Tensor, [1, 2])),
  concatenate: call({ 'parts[0]': [[2, 3]], 'parts[1]': [[2, 1]] }, (t) => ops.concatenate([t['parts[0]'] as Tensor, t['parts[1]'] as Tensor])),
  embedding: call({ weight: [[5, 3]], ids: [[2, 2], 'i32'] }, (t) => ops.embedding(t['ids'] as Tensor, t['weight'] as Tensor)),
  rmsNorm: call({ x: [[2, 3]], weight: [[3]], 'residual?': [[2, 3]] }, (t) => ops.rmsNorm(t['x'] as Tensor, t['weight'] as Tensor, { residual: t['residual?'] })),
  layerNorm: call({ x: [[2, 3]], weight: [[3]], 'bias?': [[3]], 'residual?': [[2, 3]] }, (t) =>
    ops.layerNorm(t['x'] as Tensor, t['weight'] as Tensor, t['bias?'] as Tensor, { residual: t['residual?'] })),
  rmsNormLinear: call({ x: [[2, 3]], normWeight: [[3]], weight: [[4, 3]], 'bias?': [[4]], 'residual?': [[2, 3]] }, (t) =>
    rmsNormLinear(t['x'] as Tensor, t['normWeight'] as Tensor, t['weight'] as Tensor, { bias: t['bias?'] ?? null, residual: t['residual?'] ?? null })),
  crossEntropy: call({ logits: [[2, 5]], targets: [[2], 'i32'] }, (t) => ops.crossEntropy(t['logits'] as Tensor, t['targets'] as Tensor)),
  ...Object.fromEntries(
    (['linearCrossEntropy', 'tokenLosses'] as const).map((name) => [
      name,
      call({ hidden: [[2, 3]], weight: [[5, 3]], targets: [[2], 'i32'], 'bias?': [[5]] }, (t) =>
        ops[name](t['hidden'] as Tensor, t['weight'] as Tensor, t['targets'] as Tensor, { bias: t['bias?'] ?? null, chunkRows: 1 })),
    ]),
  ),
  sampleTokens: call({ logits: [[2, 5]], ids: [[2], 'i32'], counter: [[1], 'i32'], 'history?': [[2, 4], 'i32'] }, (t) => {
    ops.sampleTokens(t['logits'] as Tensor, { ids: t['ids'] as Tensor, counter: t['counter'] as Tensor, history: t['history?'] ?? null }, { temperature: 1, seed: 3 });
  }),
  adamwStep: call({ parameters: [[6]], gradients: [[6]], firstMoments: [[6]], secondMoments: [[6]], 'gradientNorm?': [[]] }, (t) => {
    const { parameters, gradients, firstMoments, secondMoments } = t as Record<'parameters' | 'gradients' | 'firstMoments' | 'secondMoments', Tensor>;
    ops.adamwStep({ parameters, gradients, firstMoments, secondMoments, decayCount: 2, gradientNorm: t['gradientNorm?'] ?? null }, adamw);
  }),
  causalConv1d: call(
    { x: [[2, 5, 3]], weight: [[3, 4]], 'bias?': [[3]], 'initialState?': [[2, 3, 3]], 'finalState?': [[2, 3, 3]], 'sequenceStarts?': [[2, 5], 'i32'] },
    (t) =>
      ops.causalConv1d(t['x'] as Tensor, t['weight'] as Tensor, {
        ...{ bias: t['bias?'], initialState: t['initialState?'], sequenceStarts: t['sequenceStarts?'], finalState: t['finalState?'] },
      }),
  ),
  causalConv1dStep: call({ state: [[2, 3, 3]], x: [[2, 3]], weight: [[3, 4]], 'bias?': [[3]] }, (t) =>
    ops.causalConv1dStep(t['state'] as Tensor, t['x'] as Tensor, t['weight'] as Tensor, { bias: t['bias?'] })),
  selectiveScan: call(
    {
      ...{ u: [[2, 5, 3]], delta: [[2, 5, 3]], A: [[3, 4]], B: [[2, 5, 4]], C: [[2, 5, 4]], 'D?': [[3]], 'z?': [[2, 5, 3]] },
      ...{ 'deltaBias?': [[3]], 'initialState?': [[2, 3, 4]], 'finalState?': [[2, 3, 4]], 'sequenceStarts?': [[2, 5], 'i32'] },
    },
    (t) =>
      ops.selectiveScan(t['u'] as Tensor, t['delta'] as Tensor, t['A'] as Tensor, t['B'] as Tensor, t['C'] as Tensor, {
        ...{ D: t['D?'], z: t['z?'], deltaBias: t['deltaBias?'], deltaSoftplus: true },
        ...{ initialState: t['initialState?'], sequenceStarts: t['sequenceStarts?'], finalState: t['finalState?'] },
      }),
  ),
  selectiveScanStep: call({ state: [[2, 3, 4]], u: [[2, 3]], delta: [[2, 3]], A: [[3, 4]], B: [[2, 4]], C: [[2, 4]], 'D?': [[3]], 'z?': [[2, 3]], 'deltaBias?': [[3]] }, (t) =>
    ops.selectiveScanStep(t['state'] as Tensor, t['u'] as Tensor, t['delta'] as Tensor, t['A'] as Tensor, t['B'] as Tensor, t['C'] as Tensor, {
      ...{ D: t['D?'], z: t['z?'], deltaBias: t['deltaBias?'] },
    })),
  ssd: call(
    {
      ...{ x: [[2, 5, 6]], delta: [[2, 5, 3]], A: [[3]], B: [[2, 5, 4]], C: [[2, 5, 4]], 'D?': [[3]], 'z?': [[2, 5, 6]] },
      ...{ 'deltaBias?': [[3]], 'initialState?': [[2, 3, 2, 4]], 'finalState?': [[2, 3, 2, 4]], 'sequenceStarts?': [[2, 5], 'i32'] },
    },
    (t) =>
      ops.ssd(t['x'] as Tensor, t['delta'] as Tensor, t['A'] as Tensor, t['B'] as Tensor, t['C'] as Tensor, {
        ...{ D: t['D?'], z: t['z?'], deltaBias: t['deltaBias?'], deltaSoftplus: true },
        ...{ initialState: t['initialState?'], sequenceStarts: t['sequenceStarts?'], finalState: t['finalState?'] },
      }),
  ),
  ssdStep: call({ state: [[2, 3, 2, 4]], x: [[2, 6]], delta: [[2, 3]], A: [[3]], B: [[2, 4]], C: [[2, 4]], 'D?': [[3]], 'z?': [[2, 6]], 'deltaBias?': [[3]] }, (t) =>
    ops.ssdStep(t['state'] as Tensor, t['x'] as Tensor, t['delta'] as Tensor, t['A'] as Tensor, t['B'] as Tensor, t['C'] as Tensor, {
      ...{ D: t['D?'], z: t['z?'], deltaBias: t['deltaBias?'] },
    })),
  fftConv: call({ x: [[2, 5, 3]], kernel: [[2, 3, 4]], 'D?': [[2, 3]], 'reverseKernel?': [[2, 3, 2]] }, (t) =>
    ops.fftConv(t['x'] as Tensor, t['kernel'] as Tensor, { D: t['D?'], reverseKernel: t['reverseKernel?'] })),
  fft: call({ real: [[2, 5, 3]], imaginary: [[2, 5, 3]] }, (t) => ops.fft(t['real'] as Tensor, t['imaginary'] as Tensor)),
  rfft: call(x, ({ x }) => ops.rfft(x as Tensor)),
  irfft: call({ spectrum: [[2, 3, 2]] }, ({ spectrum }) => ops.irfft(spectrum as Tensor, 5)),
  gatedRmsNorm: call({ x: [[2, 3]], z: [[2, 3]], weight: [[3]] }, (t) => ops.gatedRmsNorm(t['x'] as Tensor, t['z'] as Tensor, t['weight'] as Tensor)),
  blockStep: call(
    {
      ...{ x: [[2, 3]], 'residual?': [[2, 3]], norm: [[3]], inProj: [[8, 3]], convWeight: [[4, 2]], 'convBias?': [[4]], xProj: [[5, 4]] },
      ...{ dtProj: [[4, 1]], dtBias: [[4]], A: [[4, 2]], D: [[4]], outProj: [[3, 4]], 'state.conv': [[2, 1, 4]], 'state.ssm': [[2, 4, 2]] },
    },
    (t) => {
      const { norm, inProj, convWeight, xProj, dtProj, dtBias, A, D, outProj } = t as Record<'norm' | 'inProj' | 'convWeight' | 'xProj' | 'dtProj' | 'dtBias' | 'A' | 'D' | 'outProj', Tensor>;
      const weights = { norm, inProj, convWeight, convBias: t['convBias?'] ?? null, xProj, dtProj, dtBias, A, D, outProj };
      return blockStep(t['x'] as Tensor, { conv: t['state.conv'] as Tensor, ssm: t['state.ssm'] as Tensor }, weights, { residual: t['residual?'] ?? null });
    },
  ),
  ssdBlockStep: call(
    {
      ...{ x: [[2, 3]], 'residual?': [[2, 3]], norm: [[3]], inProj: [[14, 3]], convWeight: [[8, 2]], 'convBias?': [[8]], dtBias: [[2]], A: [[2]], D: [[2]] },
      ...{ 'gatedNorm?': [[4]], outProj: [[3, 4]], 'state.conv': [[2, 1, 8]], 'state.ssm': [[2, 2, 2, 2]] },
    },
    (t) => {
      const { norm, inProj, convWeight, dtBias, A, D, outProj } = t as Record<'norm' | 'inProj' | 'convWeight' | 'dtBias' | 'A' | 'D' | 'outProj', Tensor>;
      const weights = { norm, inProj, convWeight, convBias: t['convBias?'] ?? null, dtBias, A, D, gatedNorm: t['gatedNorm?'] ?? null, outProj };
      return ssdBlockStep(t['x'] as Tensor, { conv: t['state.conv'] as Tensor, ssm: t['state.ssm'] as Tensor }, weights, { residual: t['residual?'] ?? null });
    },
  ),
  backward: call({ 'outputs[0]': [[2, 3]], 'cotangents[0]': [[2, 3]], 'by[0]': [[2, 3]] }, (t) =>
    new Tape([]).backward([t['outputs[0]'] as Tensor], [t['cotangents[0]'] as Tensor], [t['by[0]'] as Tensor])),
  valueAndGradients: call({ 'by[0]': [[2, 3]] }, (t) => valueAndGradients([t['by[0]'] as Tensor], () => ops.sum(t['by[0]'] as Tensor))),
  recompute: call({ 'inputs[0]': [[2, 3]] }, (t) => recompute([t['inputs[0]'] as Tensor], ([one]) => [ops.exp(one as Tensor)])),
};

const adamw = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 1 };

/** Operations that take tensors of any dtype, or all of one. */
const anyDType: ReadonlySet<string> = new Set(['contiguous', 'reshape', 'split', 'recompute', 'copyInto']);

function make(backend: Backend, [shape, dtype = 'f32']: readonly [shape: Shape, dtype?: DType]): Tensor {
  if (dtype === 'int8') return scope(() => ops.packWeight(tensor(backend, new Float32Array(sizeOf(shape)).fill(0.5), shape), 'int8'));
  return tensor(backend, new Float32Array(sizeOf(shape)).fill(dtype === 'i32' ? 1 : 0.5), shape, dtype);
}

const makeAll = (backend: Backend, { tensors }: Call): Tensors => Object.fromEntries(Object.entries(tensors).map(([name, given]) => [name, make(backend, given)]));

function disposeAll(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (typeof value === 'object' && value !== null) Object.values(value).forEach(disposeAll);
}

const escaped = (text: string) => text.replace(/[[\].*?]/g, '\\$&');

describe.each(['reference', 'cpu'] as const)('on %s', (kind) => {
  const backend = useBackend(kind, { threads: 1 });
  const other = useBackend(kind, { threads: 1 });
  const live = () => [backend(), other()].map((one) => one.statistics().liveBuffers);

  /** Runs it, outside of any scope, and tells the error; nothing that it made may be left. */
  function failure(body: () => unknown): unknown {
    const before = live();
    try {
      disposeAll(body());
    } catch (error) {
      expect(live(), `buffers after: ${String(error)}`).toEqual(before);
      return error;
    }
    return undefined;
  }

  test.each(Object.entries(calls))('%s: what is right leaves only its results, what is wrong nothing', (name, one) => {
    const given = makeAll(backend(), one);
    const before = live();
    disposeAll(one.run(given));
    expect(live(), 'buffers after a call').toEqual(before);
    const freed = make(backend(), [[1]]);
    freed.dispose();
    const foreign = makeAll(other(), one);
    for (const [key, [shape, dtype]] of Object.entries(one.tensors)) {
      const argument = key.replace('?', '');
      const alone = Object.keys(one.tensors).length === 1;
      const wrongType = dtype === 'i32' ? make(backend(), [shape]) : tensor(backend(), new Int32Array(sizeOf(shape)), shape, 'i32');
      const wrong: [unknown, new (problem: string) => Error, string][] = [
        ...(key.endsWith('?') ? [] : [[null, ArgumentError, 'null; expected a tensor'], [undefined, ArgumentError, 'undefined; expected a tensor']] as [unknown, new (problem: string) => Error, string][]),
        ['0.5', ArgumentError, "'0.5'; expected a tensor"],
        [Float32Array.of(1), ArgumentError, 'a value of type Float32Array; expected a tensor'],
        [freed, DisposedError, 'a tensor [1] that was freed'],
        ...(alone ? [] : [[foreign[key], ArgumentError, 'on another backend'] as [unknown, new (problem: string) => Error, string]]),
        ...(anyDType.has(name) ? [] : [[wrongType, DTypeError, `${wrongType.dtype}; expected`] as [unknown, new (problem: string) => Error, string]]),
      ];
      for (const [value, error, got] of wrong) {
        const thrown = failure(() => one.run({ ...given, [key]: value as Tensor }));
        expect(thrown, `${argument}: ${got}`).toBeInstanceOf(error);
        // The first tensor says what backend the others should be on.
        const where = got === 'on another backend' ? '.+' : escaped(argument);
        expect((thrown as Error).message).toMatch(new RegExp(`^${name}: ${where} is ${escaped(got)}`));
        expect(thrown).toMatchObject({ operation: name, ...(got === 'on another backend' ? {} : { argument }) });
      }
      wrongType.dispose();
    }
    disposeAll([given, foreign]);
  });

  const bad = (value: unknown) => value as never;
  test.each<[string, new (problem: string) => Error, (t: Tensor) => unknown]>([
    // What host arrays become.
    ...[-1, 1.5, NaN, Infinity, 2 ** 53, '2', null, 2n].flatMap((extent): [string, new (problem: string) => Error, (t: Tensor) => unknown][] => [
      ['empty: shape is', ShapeError, () => empty(backend(), [bad(extent), 2])],
      ['tensor: shape is', ShapeError, () => tensor(backend(), [1, 2], [2, bad(extent)])],
    ]),
     
    ['empty: shape is [undefined,2]; expected extents that are integers ≥ 0', ShapeError, () => empty(backend(), [, 2] as never)],
    ['empty: shape is 3; expected an array of extents.', ShapeError, () => empty(backend(), bad(3))],
    ['empty: shape is undefined', ShapeError, () => empty(backend(), bad(undefined))],
    ['allocate: no memory for', BackendError, () => empty(backend(), [2 ** 45])],
    ['empty: shape is [3]; expected [N,K]', ShapeError, () => empty(backend(), [3], 'int8')],
    ...['float32', 'int64', '', null, 'toString'].flatMap((dtype): [string, new (problem: string) => Error, (t: Tensor) => unknown][] => [
      [`empty: dtype is ${dtype === null ? 'null' : `'${dtype}'`}; expected 'f32', 'f16', 'i32', 'bf16', 'int8', 'int4'.`, DTypeError, () => empty(backend(), [2], bad(dtype))],
      ['tensor: dtype is', DTypeError, () => tensor(backend(), [1, 2], [2], bad(dtype))],
    ]),
    ['tensor: backend is undefined; expected a backend. Hint: await openBackend()', ArgumentError, () => tensor(bad(undefined), [1], [1])],
    ['empty: backend is a promise (is an await missing?)', ArgumentError, () => empty(bad(Promise.resolve()), [1])],
    ...[undefined, null, 5, 'ab', {}].flatMap((values): [string, new (problem: string) => Error, (t: Tensor) => unknown][] => [
      ['tensor: values is', ArgumentError, () => tensor(backend(), bad(values), [2])],
      ['tensor: values is', ArgumentError, () => tensor(backend(), () => bad(values), [2], 'i32')],
      ['write: values is', ArgumentError, (t) => { t.write(bad(values)); }],
    ]),
    ['tensor: values is a value of type BigInt64Array; expected 2 numbers for shape [1,2].', ArgumentError, () => tensor(backend(), bad(BigInt64Array.of(1n, 2n)), [1, 2], 'i32')],
    ['tensor: values is a value of type BigUint64Array', ArgumentError, () => tensor(backend(), () => bad(BigUint64Array.of(1n)), [1])],
    ['write: values is a value of type BigInt64Array', ArgumentError, (t) => { t.write(bad(BigInt64Array.of(1n, 2n))); }],
    ['tensor: values is 3 numbers; expected 2 numbers for shape [2].', ArgumentError, () => tensor(backend(), [1, 2, 3], [2])],
    ['tensor: values is 0 numbers', ArgumentError, () => tensor(backend(), () => [], [2])],
    ['write: values is 1 numbers; expected 2 numbers for shape [2].', ArgumentError, (t) => { t.write([1]); }],
    ["tensor: values[1] is '2'; expected a number.", ArgumentError, () => tensor(backend(), [1, bad('2')], [2])],
     
    ['tensor: values[0] is undefined; expected a number.', ArgumentError, () => tensor(backend(), [, 2] as never, [2])],
    ['tensor: values[1] is 1n; expected a number.', ArgumentError, () => tensor(backend(), [0, bad(1n)], [2])],
    ['write: values[1] is null; expected a number.', ArgumentError, (t) => { t.write([0, bad(null)]); }],
    ...[1.5, NaN, Infinity, 2 ** 31, -(2 ** 31) - 1, 2 ** 53, '1'].map((value): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      'tensor: values[1] is',
      ArgumentError,
      () => tensor(backend(), [0, bad(value)], [2], 'i32'),
    ]),
    ['tensor: values[0] is 4294967295; expected an integer in [−2³¹, 2³¹).', ArgumentError, () => tensor(backend(), Uint32Array.of(2 ** 32 - 1), [1], 'i32')],
    ['tensor: values[0] is 0.5; expected an integer in [−2³¹, 2³¹).', ArgumentError, () => tensor(backend(), Float32Array.of(0.5), [1], 'i32')],
    ['tensor: values[0] is 256; expected an integer in [0, 256).', ArgumentError, () => tensor(backend(), [256, ...new Array<number>(1087).fill(0)], [1, 1], 'int8')],
    // Experts go where a routing says.
    ...[0, -1, NaN, '1'].map((factor): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      'routeTokens: capacityFactor is', ArgumentError, () => scope(() => ops.routeTokens(empty(backend(), [2, 3]), empty(backend(), [3, 4]), { capacityFactor: bad(factor) })),
    ]),
    ['experts: routing is another object; expected what routeTokens gave.', ArgumentError, () => scope(() => {
      const ids = (...shape: number[]) => tensor(backend(), new Int32Array(sizeOf(shape)).fill(99), shape, 'i32');
      const routing = { choice: ids(2), counts: ids(4), offsets: ids(5), order: ids(2), place: ids(2) };
      return ops.experts(empty(backend(), [2, 3]), empty(backend(), [2]), routing, empty(backend(), [4, 3, 5]), empty(backend(), [4, 5, 3]));
    })],
    // Views and shapes.
    ...([[[3]], [[1], 2], [[1], -1], [[1], 0.5], [[2, 1], 0, 2], [[-1]], [[2, 2], 0, 0.5]] as [number[], number?, number?][]).map(
      ([shape, start, pitch]): [string, new (problem: string) => Error, (t: Tensor) => unknown] => ['view: shape is', ShapeError, (t) => t.aliased(shape, start, pitch)],
    ),
    ...[[-1, -1], [-2], [NaN], [1.5], [-2, -1], null].map((shape): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      'reshape: shape is', ShapeError, (t) => ops.reshape(t, bad(shape)),
    ]),
    ...[[3, -1], [1], [NaN, 2], [0.5, 1.5], null].map((sizes): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      'split: sizes is', ShapeError, (t) => ops.split(t, bad(sizes)),
    ]),
    ['copyInto: destination is [2]; expected the shape of source, [1,3]', ShapeError, (t) => scope(() => { copyInto(empty(backend(), [1, 3]), t); })],
    ["cast: dtype is 'f64'; expected 'f32' or 'f16'.", DTypeError, (t) => ops.cast(t, bad('f64'))],
    ["packWeight: dtype is 'int3'", ArgumentError, (t) => ops.packWeight(t, bad('int3'))],
    ...[NaN, 2, 0.5, null, '0'].map((axis): [string, new (problem: string) => Error, (t: Tensor) => unknown] => ['sum: axis is', ArgumentError, (t) => ops.sum(t, bad(axis))]),
    ['mean: axis is NaN', ArgumentError, (t) => ops.mean(t, NaN)],
    ['max: axis is 1.5', ArgumentError, (t) => ops.max(t, 1.5)],
    // Numbers of options.
    ...[NaN, Infinity, '2', undefined].map((scale): [string, new (problem: string) => Error, (t: Tensor) => unknown] => ['affine: scale is', ArgumentError, (t) => ops.affine(t, bad(scale))]),
    ['affine: shift is NaN; expected a finite number.', ArgumentError, (t) => ops.affine(t, 1, NaN)],
    ['globalNorm: scale is NaN', ArgumentError, (t) => ops.globalNorm(t, NaN)],
    ['valueAndGradients: scale is NaN', ArgumentError, (t) => valueAndGradients([t], () => ops.sum(t), { scale: NaN })],
    ['valueAndGradients: result of body is [2]; expected one element', ArgumentError, (t) => valueAndGradients([t], () => ops.exp(t))],
    ['valueAndGradients: result of body is undefined; expected a tensor', ArgumentError, (t) => valueAndGradients([t], () => bad(undefined))],
    ...[NaN, -1, Infinity, '1e-5', null].flatMap((epsilon): [string, new (problem: string) => Error, (t: Tensor) => unknown][] => [
      ['rmsNorm: epsilon is', ArgumentError, (t) => ops.rmsNorm(t, t, { epsilon: bad(epsilon) })],
      ['layerNorm: epsilon is', ArgumentError, (t) => ops.layerNorm(t, t, null, { epsilon: bad(epsilon) })],
    ]),
    ...[NaN, -0.1, Infinity, '1'].map((temperature): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      'sampleTokens: temperature is', ArgumentError, () => scope(() => {
        const [logits, ids] = [empty(backend(), [2, 5]), empty(backend(), [2], 'i32')];
        ops.sampleTokens(logits, { ids, counter: tensor(backend(), [0], [1], 'i32') }, { temperature: bad(temperature), seed: 1 });
      }),
    ]),
    ...Object.keys(adamw).map((name): [string, new (problem: string) => Error, (t: Tensor) => unknown] => [
      `adamwStep: ${name} is NaN`, ArgumentError, (t) => { ops.adamwStep({ parameters: t, gradients: t, firstMoments: t, secondMoments: t, decayCount: 0 }, { ...adamw, [name]: NaN }); },
    ]),
    ["selectiveScan: discretization is 'exact'", ArgumentError, () => scope(() => {
      const [u, A] = [empty(backend(), [1, 2, 3]), empty(backend(), [3, 3])];
      return ops.selectiveScan(u, u, A, u, u, { discretization: bad('exact') });
    })],
  ])('%s', (message, error, body) => {
    const t = tensor(backend(), [1, 2], [2]);
    const thrown = failure(() => body(t));
    t.dispose();
    expect(thrown).toBeInstanceOf(error);
    expect((thrown as Error).message.startsWith(message), (thrown as Error).message).toBe(true);
  });

  describe('a model', () => {
    let model: LanguageModel;
    let state: State;
    // The suite's backend has to be free of buffers after each test: the model has one of its own.
    let own: Backend;
    beforeAll(async () => {
      own = await openBackend(kind, { threads: 1 });
      model = smallModel(own);
      state = model.newState(2);
    });
    afterAll(() => own.close());
    const ids = (...values: number[]) => tensor(own, values, [2, values.length / 2], 'i32');
    const right = () => ids(1, 2, 3, 22);

    test.each<[string, (given: Tensor) => unknown]>([
      ['hidden', (given) => model.hidden(given)],
      ['forward', (given) => model.forward(given)],
      ['forwardLast', (given) => model.forwardLast(given, { state })],
      ['hiddenStates', (given) => model.hiddenStates(given)],
      ['loss', (given) => model.loss(given, right())],
      ['tokenLosses', (given) => model.tokenLosses(given, right())],
      ['loss', (given) => ((targets) => model.loss(right(), targets))(given)],
    ])('%s: ids outside of the vocabulary, of another kind or place; nothing is left outside of a scope', (name, run) => {
      const leaves = (body: () => unknown): unknown => {
        const before = own.statistics().liveBuffers;
        let thrown: unknown;
        // The scope frees what the test itself makes.
        try { scope(() => { disposeAll(body()); }); } catch (error) { thrown = error; }
        expect(own.statistics().liveBuffers - before).toBe(0);
        return thrown;
      };
      const targets = run.toString().includes('targets');
      const argument = targets ? 'targets' : 'ids';
      const interval = targets ? '[−1, V) = [-1, 23)' : '[0, V) = [0, 23)';
      expect(leaves(() => run(right()))).toBeUndefined();
      for (const bad of [targets ? -2 : -1, 23, 9999, -(2 ** 31)]) {
        const thrown = leaves(() => run(ids(1, bad, 3, 4)));
        expect(thrown).toBeInstanceOf(ArgumentError);
        expect((thrown as Error).message).toContain(`${name}: an element of ${argument} is ${bad}; expected an integer in ${interval}.`);
      }
      expect((leaves(() => run(tensor(own, [1, 2], [2, 1]))) as Error).message).toContain(`${name}: ${argument} is f32; expected i32`);
      expect((leaves(() => run(null as never)) as Error).message).toContain(`${name}: ${argument} is null; expected a tensor`);
      const foreign = tensor(backend(), [1, 2], [2, 1], 'i32');
      expect((leaves(() => run(foreign)) as Error).message).toContain(`${name}: ${argument} is on another backend`);
      foreign.dispose();
    });

    test('losses and logits outside of a scope are one buffer each', () => {
      const before = own.statistics().liveBuffers;
      const [given, targets] = [right(), ids(2, -1, -1, 4)];
      const made = [model.loss(given, targets), model.forward(given), model.tokenLosses(given, targets)];
      expect(own.statistics().liveBuffers - before).toBe(5);
      disposeAll([given, targets, made]);
      expect(own.statistics().liveBuffers - before).toBe(0);
    });

    test('a step takes ids of the vocabulary, one a sequence, and what its own prepare() gave', () => {
      const prepared = model.prepare();
      const other = smallModel(own, { dModel: 8 });
      const foreign = other.prepare();
      const one = (...values: number[]) => tensor(own, values, [values.length], 'i32');
      scope(() => {
        expect(() => model.step(one(1, 23), state, prepared)).toThrow('step: an element of ids is 23; expected an integer in [0, V) = [0, 23). Hint: is this the tokenizer');
        expect(() => model.step(one(1), state, prepared)).toThrow('step: state is 2; expected 1 sequences');
        expect(() => model.step(one(1, 2), state, foreign)).toThrow('step: prepared is another model’s; expected what prepare() of this model gave');
        expect(() => model.forward(right(), { prepared: foreign })).toThrow('forward: prepared is another model’s');
        expect(() => model.forward(right(), { sequenceStarts: one(1, 0) })).toThrow('forward: sequenceStarts is [2]; expected [B,L] of ids = [2,2]');
        expect(model.step(one(1, 22), state, prepared).shape).toEqual([2, 23]);
      });
      disposeAll([prepared, foreign, other]);
    });

    test('ids are known again after the host writes them, and unknown once a kernel has', () => {
      scope(() => {
        const given = right();
        given.write([1, 2, 3, 23]);
        expect(() => model.forward(given)).toThrow('an element of ids is 23');
        given.write([1, 2, 3, 4]);
        model.forward(given);
        copyInto(ids(0, 0, 0, 99), given);
        model.forward(given);
      });
    });
  });

  test('layers leave nothing outside of a scope', () => {
    const given = makeAll(backend(), call({ rows: [[2, 3]], sequence: [[2, 5, 3]], ids: [[2], 'i32'] }, () => undefined)) as Record<'rows' | 'sequence' | 'ids', Tensor>;
    const before = live();
    const { rows, sequence, ids } = given;
    disposeAll([
      layer(backend(), (parameters) => new nn.Linear(parameters, { inputs: 3, outputs: 4, bias: true }), (one) => one.forward(rows)),
      layer(backend(), (parameters) => new nn.Embedding(parameters, { count: 4, size: 3, deviation: 1 }), (one) => one.forward(ids)),
      ...(['rms', 'layer'] as const).map((norm) =>
        layer(backend(), (parameters) => ({ norm: new nn.Norm(parameters, { size: 3, kind: norm, epsilon: 1e-5 }), linear: new nn.Linear(parameters.at('linear'), { inputs: 3, outputs: 2, bias: false }) }), (one) => [
          one.norm.forward(rows, rows),
          one.norm.project(rows, rows, one.linear),
        ])),
      layer(backend(), (parameters) => new nn.CausalConv1d(parameters, { channels: 3, width: 4, bias: true }), (one) => one.forward(sequence, {})),
    ]);
    expect(live()).toEqual(before);
    disposeAll(given);
  });
});

test.each<[unknown, string]>([
  [null, 'openBackend: options is null; expected an object.'],
  [{ thread: 2 }, "openBackend: options is given 'thread'; expected some of kernels, precision, threads, poison."],
  [{ matmul: 'f16' }, "openBackend: options is given 'matmul'; expected some of kernels, precision, threads, poison."],
  [{ poison: 'yes' }, "openBackend: poison is 'yes'; expected true or false."],
  [{ threads: NaN }, 'openBackend: threads is NaN; expected an integer from 1 to'],
  [{ threads: 1.5 }, 'openBackend: threads is 1.5; expected an integer from 1 to'],
  [{ precision: NaN }, "openBackend: precision is NaN; expected 'f32' or 'bf16' on cpu."],
])('openBackend with %o', async (options, message) => {
  await expect(openBackend('cpu', options as never)).rejects.toThrow(message);
});

/** A backend that fails at the n-th thing it is asked. */
class FailingBackend extends ReferenceBackend {
  left = Infinity;

  override allocate(...given: Parameters<ReferenceBackend['allocate']>) {
    this.#ask();
    return super.allocate(...given);
  }

  override launch(...given: Parameters<ReferenceBackend['launch']>): void {
    this.#ask();
    super.launch(...given);
  }

  #ask(): void {
    if (this.left-- <= 0) throw new Error('planted');
  }
}

test.each(Object.entries(calls))('%s: nothing is left wherever the backend fails', (_, one) => {
  const backend = new FailingBackend();
  const given = makeAll(backend, one);
  const before = backend.statistics().liveBuffers;
  const tape = new Tape(Object.values(given).filter(({ dtype }) => dtype === 'f32'));
  for (let after = 0, done = false; !done; after++) {
    backend.left = after;
    try {
      disposeAll(tape.run(() => one.run(given)));
      done = true;
    } catch (error) {
      expect((error as Error).message).toBe('planted');
    }
    tape.dispose();
    expect(backend.statistics().liveBuffers, `failing after ${after}`).toBe(before);
  }
  disposeAll(given);
});
