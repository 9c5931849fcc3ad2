import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { Decoder, prefill } from '../../src/generate/index.js';
import { State } from '../../src/models/index.js';
import { withoutScope, type Tensor } from '../../src/tensor/index.js';
import { CheckpointError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { idTensor, randomIds, read, smallModel } from '../support/models.js';

const length = 37;
const ids = randomIds(length, 23);
const limit = tolerance(length);

const runs = [
  { name: 'reference', kind: 'reference' as const, options: {} },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels } })),
];

describe.each(runs)('$name', ({ kind, options }) => {
  const backend = useBackend(kind, options);
  const variants = [{}, { norm: 'layer', projectionBias: true, convBias: false, tiedHead: false, dConv: 1 }, { ssm: 'lti' }] as const;

  test.each(variants)('step by step equals the whole sequence: %o', async (variant) => {
    const model = smallModel(backend(), variant);
    const whole = await read(() => model.forward(idTensor(backend(), ids, [1, length])));
    const state = model.newState(1);
    const decoder = new Decoder(model, state);
    for (let t = 0; t < length; t++) {
      const logits = await decoder.step([ids[t] ?? 0]);
      expectClose(logits, whole.subarray(t * 23, (t + 1) * 23), limit, `logits at ${t}`);
    }
    expect(state.position).toBe(length);
    decoder.dispose();
    state.dispose();
    model.dispose();
  });

  test.each([1, 2, 3, 5, 16, 36, 37])('a prompt in pieces of %i equals the whole', async (chunkLength) => {
    const model = smallModel(backend());
    const whole = await read(() => model.forwardLast(idTensor(backend(), ids, [1, length])));
    const state = model.newState(1);
    expectClose(await prefill(model, ids, state, { chunkLength }), whole, limit, 'last logits');
    state.dispose();
    model.dispose();
  });

  test('a batch equals its rows one by one', async () => {
    const model = smallModel(backend());
    const both = randomIds(2 * length, 23, 8);
    const batch = await read(() => model.forward(idTensor(backend(), both, [2, length])));
    for (const row of [0, 1]) {
      const single = await read(() => model.forward(idTensor(backend(), both.subarray(row * length, (row + 1) * length), [1, length])));
      expectClose(batch.subarray(row * length * 23, (row + 1) * length * 23), single, limit, `row ${row}`);
    }
    model.dispose();
  });

  test('packed documents equal separate ones: losses and gradients', async () => {
    const model = smallModel(backend());
    const documents = [ids.subarray(0, 1), ids.subarray(1, 3), ids.subarray(3, 20), ids.subarray(20)];
    const starts = new Int32Array(length);
    const targets = new Int32Array(length).fill(-1);
    let at = 0;
    for (const document of documents) {
      starts[at] = 1;
      targets.set(document.subarray(1), at);
      at += document.length;
    }
    const by = model.parameters.map(({ tensor }) => tensor);
    const packed = await lossAndGradients(by, () =>
      model.loss(idTensor(backend(), ids, [1, length]), idTensor(backend(), targets, [1, length]), {
        sequenceStarts: idTensor(backend(), starts, [1, length]),
      }),
    );
    const sums = packed.gradients.map((gradient) => new Float64Array(gradient.length));
    let loss = 0;
    const predicted = length - documents.length;
    for (const document of documents) {
      if (document.length < 2) continue;
      const weight = (document.length - 1) / predicted;
      const own = Int32Array.of(...document.subarray(1), -1);
      const single = await lossAndGradients(by, () =>
        model.loss(idTensor(backend(), document, [1, document.length]), idTensor(backend(), own, [1, document.length])),
      );
      loss += weight * single.loss;
      single.gradients.forEach((gradient, i) => gradient.forEach((value, j) => ((sums[i] as Float64Array)[j] = (sums[i]?.[j] ?? 0) + weight * value)));
    }
    expectClose([packed.loss], [loss], limit, 'loss');
    for (const [i, { key }] of model.parameters.entries()) {
      expectClose(packed.gradients[i] ?? [], sums[i] ?? [], 4 * limit, `gradient of ${key}`);
    }
    model.dispose();
  });

  test('a state can be copied, serialised and restored', async () => {
    const model = smallModel(backend());
    const state = model.newState(1);
    await prefill(model, ids.subarray(0, 20), state);
    const copy = state.copy();
    const bytes = await state.serialize();
    const expected = await prefill(model, ids.subarray(20), state);
    const restored = await State.restore(model, bytes);
    expect(restored.position).toBe(20);
    expect(await prefill(model, ids.subarray(20), copy)).toEqual(expected);
    // Reference states are float64 and are rounded to float32 on the way.
    expectClose(await prefill(model, ids.subarray(20), restored), expected, limit, 'after restoring');
    for (const one of [state, copy, restored]) one.dispose();
    model.dispose();
  });

  test('the state of another model is refused', async () => {
    const model = smallModel(backend());
    const state = model.newState(1);
    const bytes = await state.serialize();
    const other = smallModel(backend(), { dState: 4 });
    await expect(State.restore(other, bytes)).rejects.toThrow(/0\.ssm.*expected F32 \[1,40,4\]/);
    await expect(State.restore(model, bytes.subarray(0, 100))).rejects.toThrow(CheckpointError);
    state.dispose();
    for (const one of [model, other]) one.dispose();
  });
});

async function lossAndGradients(by: readonly Tensor[], body: () => Tensor): Promise<{ loss: number; gradients: Float64Array[] }> {
  const { value, gradients } = withoutScope(() => valueAndGradients(by, body));
  const result = { loss: await value.item(), gradients: [] as Float64Array[] };
  value.dispose();
  for (const gradient of gradients) {
    result.gradients.push(Float64Array.from((await gradient?.exactData()) ?? []));
    gradient?.dispose();
  }
  return result;
}

