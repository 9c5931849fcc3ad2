import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { crossEntropy, ignoredTarget } from '../../src/ops/cross-entropy/cross-entropy.js';
import { defaultChunkRows, linearCrossEntropy, tokenLosses } from '../../src/ops/cross-entropy/linear-cross-entropy.js';
import { add, affine } from '../../src/ops/elementwise/elementwise.js';
import { gemmInto } from '../../src/ops/matmul/gemm.js';
import { empty, record, scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { idsOfDevice } from '../support/models.js';

/** x·wᵀ [rows,V], with the plainest of gradient rules. */
function project(x: Tensor, w: Tensor): Tensor {
  const y = empty(x.backend, [...x.shape.slice(0, -1), w.rows]);
  gemmInto(x, w, y, { transposeB: true });
  record({
    operation: 'project',
    inputs: [x, w],
    outputs: [y],
    saved: { x, w },
    backward({ cotangents: [dy], saved }) {
      if (!dy) return [null, null];
      const dx = empty(dy.backend, saved.x.shape);
      const dw = empty(dy.backend, saved.w.shape);
      gemmInto(dy, saved.w, dx);
      gemmInto(dy, saved.x, dw, { transposeA: true });
      return [dx, dw];
    },
  });
  return y;
}

interface Inputs {
  hidden: Tensor;
  weight: Tensor;
  bias: Tensor;
  targets: Tensor;
}

function makeInputs(backend: Backend, { B = 2, L = 50, V = 97, D = 32, seed = 1 } = {}): Inputs {
  const random = new Random(seed);
  const normal = (size: number) => Float32Array.from({ length: size }, () => random.normal());
  const target = () => (random.uniform() < 0.2 ? ignoredTarget : random.integer(V));
  return {
    hidden: tensor(backend, normal(B * L * D), [B, L, D]),
    weight: tensor(backend, normal(V * D), [V, D]),
    bias: tensor(backend, normal(V), [V]),
    targets: tensor(backend, Int32Array.from({ length: B * L }, target), [B, L], 'i32'),
  };
}

/** Loss and gradients by hidden, weight and bias. */
async function evaluate(
  backend: Backend,
  loss: (inputs: Inputs) => Tensor,
  options: Parameters<typeof makeInputs>[1] = {},
): Promise<Float64Array[]> {
  const results = scope(() => {
    const inputs = makeInputs(backend, options);
    const { value, gradients } = valueAndGradients([inputs.hidden, inputs.weight, inputs.bias], () => loss(inputs));
    return [value, ...gradients.map((gradient) => gradient ?? expect.fail('a gradient is missing'))];
  });
  const values = await Promise.all(results.map((result) => result.exactData()));
  for (const result of results) result.dispose();
  return values;
}

const fused =
  (chunkRows: number) =>
  ({ hidden, weight, targets, bias }: Inputs) =>
    linearCrossEntropy(hidden, weight, targets, { bias, chunkRows });
const composed = ({ hidden, weight, targets, bias }: Inputs) => crossEntropy(add(project(hidden, weight), bias), targets);

describe('linearCrossEntropy is crossEntropy of the projection, in value and gradients', () => {
  const reference = useBackend('reference');
  test.each([1, 7, 99, 100, 1000])('reference, chunks of %d rows', async (chunkRows) => {
    const expected = await evaluate(reference(), composed);
    const actual = await evaluate(reference(), fused(chunkRows));
    actual.forEach((values, i) => {
      expectClose(values, expected[i] ?? [], 1e-13, ['loss', 'dhidden', 'dweight', 'dbias'][i] ?? '');
    });
  });

  describe.each(compiledKernels)('%s', (kernels) => {
    const backend = useBackend('cpu', { kernels });
    test.each([1, 7, 1000])('chunks of %d rows', async (chunkRows) => {
      const expected = await evaluate(reference(), composed);
      const actual = await evaluate(backend(), fused(chunkRows));
      actual.forEach((values, i) => {
        expectClose(values, expected[i] ?? [], tolerance(100), ['loss', 'dhidden', 'dweight', 'dbias'][i] ?? '');
      });
      expect(backend().statistics().liveBuffers).toBe(0);
    });

    test('runs repeat to the bit', async () => {
      const first = await evaluate(backend(), fused(32), { L: 200, V: 1000 });
      for (let run = 0; run < 3; run++) expect(await evaluate(backend(), fused(32), { L: 200, V: 1000 })).toEqual(first);
    });
  });
});

describe('losses', () => {
  const backend = useBackend('cpu');

  test('the gradients are scaled by a cotangent other than 1', async () => {
    const [, ...plain] = await evaluate(backend(), fused(16));
    const [, ...scaled] = await evaluate(backend(), (inputs) => affine(fused(16)(inputs), 4));
    scaled.forEach((values, i) => {
      expect(Array.from(values)).toEqual(Array.from(plain[i] ?? [], (value) => 4 * value));
    });
  });

  test('without a tape the loss is the same, and no gradient is made', async () => {
    const [recorded = []] = await evaluate(backend(), fused(16));
    const inputs = makeInputs(backend());
    backend().resetStatistics();
    const loss = fused(16)(inputs);
    const gemms = Math.ceil(100 / 16);
    // Per chunk: one product and the losses; besides: the count and the sum. The rest is the poison of new buffers.
    const poisoned = 4;
    expect(backend().statistics().launches).toBe(2 * gemms + 2 + poisoned);
    expect(await loss.item()).toBeCloseTo(recorded[0] ?? NaN, 5);
    for (const made of [loss, ...(Object.values(inputs) as Tensor[])]) made.dispose();
  });

  test('memory: chunks of logits and the gradients, never all logits', () => {
    const [L, V, D] = [600, 20_000, 4] as const;
    const inputs = makeInputs(backend(), { B: 1, L, V, D });
    const { hidden, weight, targets } = inputs;
    backend().resetStatistics();
    const before = backend().statistics().liveBytes;
    const { value, gradients } = valueAndGradients([hidden, weight], () => linearCrossEntropy(hidden, weight, targets));
    const peakBytes = backend().statistics().peakBytes - before;
    const gradientBytes = 4 * (L * D + V * D);
    expect(peakBytes).toBeLessThan(4 * defaultChunkRows(backend(), V) * V + gradientBytes + 16_384);
    expect(peakBytes).toBeLessThan((4 * L * V) / 4);
    for (const made of [value, ...gradients, ...(Object.values(inputs) as Tensor[])]) made?.dispose();
  });

  test('tokenLosses have the mean that linearCrossEntropy gives, and 0 where the target is −1', async () => {
    const inputs = makeInputs(backend());
    const { hidden, weight, targets, bias } = inputs;
    const perToken = tokenLosses(hidden, weight, targets, { bias, chunkRows: 9 });
    const loss = fused(9)(inputs);
    expect(perToken.shape).toEqual([2, 50]);
    const values = await perToken.exactData();
    const chosen = await targets.exactData();
    const counted = Array.from(values).filter((_, i) => chosen[i] !== ignoredTarget);
    expect(Array.from(values).filter((_, i) => chosen[i] === ignoredTarget)).toEqual(
      new Array<number>(values.length - counted.length).fill(0),
    );
    expect(counted.reduce((a, b) => a + b, 0) / counted.length).toBeCloseTo(await loss.item(), 5);
    for (const made of [perToken, loss, ...(Object.values(inputs) as Tensor[])]) made.dispose();
  });

  test.each([19, -2, 2 ** 31 - 1])('the impossible target %d makes the loss NaN and spoils no other row', async (bad) => {
    const logits = tensor(backend(), new Float32Array(57).fill(1), [3, 19]);
    const targets = idsOfDevice(backend(), [4, bad, -1], [3]);
    const { value, gradients } = valueAndGradients([logits], () => crossEntropy(logits, targets));
    expect(await value.item()).toBeNaN();
    const gradient = (await gradients[0]?.exactData()) ?? [];
    expect(Array.from(gradient, (entry) => Number.isNaN(entry))).toEqual(Array.from({ length: 57 }, (_, i) => i >= 19 && i < 38));
    for (const made of [logits, targets, value, ...gradients]) made?.dispose();
  });

  test('no rows at all: the loss is 0 and the gradient of the weight zeros', async () => {
    const [loss, , dWeight] = await evaluate(backend(), fused(8), { L: 0, V: 5, D: 3 });
    expect(Array.from(loss ?? [])).toEqual([0]);
    expect(Array.from(dWeight ?? [])).toEqual(new Array<number>(15).fill(0));
  });

  test('arguments that do not fit are refused before anything is launched', () => {
    const inputs = makeInputs(backend());
    const { hidden, weight, bias, targets } = inputs;
    backend().resetStatistics();
    expect(() => crossEntropy(hidden, bias)).toThrow('crossEntropy: targets is f32; expected i32');
    expect(() => crossEntropy(weight, targets)).toThrow('crossEntropy: targets is [2,50]; expected [...] of logits [...,V] = [97]');
    expect(() => linearCrossEntropy(hidden, bias, targets)).toThrow('linearCrossEntropy: weight is [97]');
    expect(() => linearCrossEntropy(weight, weight, targets)).toThrow('targets is [2,50]; expected [...] of hidden [...,D] = [97]');
    expect(() => linearCrossEntropy(hidden, weight, targets, { bias: weight })).toThrow('bias is [97,32]; expected [V] = [97]');
    expect(() => linearCrossEntropy(hidden, weight, targets, { chunkRows: 0 })).toThrow('chunkRows is 0; expected a positive integer');
    expect(() => tokenLosses(hidden, weight, targets, { chunkRows: 1.5 })).toThrow('tokenLosses: chunkRows is 1.5');
    expect(backend().statistics().launches).toBe(0);
    for (const made of Object.values(inputs)) (made as Tensor).dispose();
  });
});
