import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { openBackend } from '../../src/backend/open.js';
import { ignoredTarget, packedPass, PackedSampler } from '../../src/data/index.js';
import { LanguageModel, mambaFamily } from '../../src/models/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { evaluate, evaluateSequence, restoreTraining, saveTraining, Trainer } from '../../src/train/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';
import { useFolder } from '../support/folders.js';
import { tinyConfig, tinyOptions } from '../support/training.js';
import { memoryOf } from '../support/models.js';

const documents = randomDocuments([7, 30, 2, 1, 45, 12, 5, 19, 3, 28]);
const shape = { batchSize: 3, length: 11 };
const folder = useFolder();

const dataset = () => ({ training: new MemoryDocuments(documents), validation: new MemoryDocuments(randomDocuments([20, 4, 31], 29, 2)) });

describe.each(compiledKernels)('packed training on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const ids = (values: ArrayLike<number>, rows: readonly number[]) => tensor(backend(), values, rows, 'i32');

  async function lossAndGradients(model: LanguageModel, body: () => Tensor): Promise<{ loss: number; gradients: ArrayLike<number>[] }> {
    const { value, gradients } = valueAndGradients(model.parameters.map(({ tensor: t }) => t), body);
    const read = [];
    for (const gradient of gradients) {
      read.push(gradient === null ? [] : await gradient.data());
      gradient?.dispose();
    }
    const loss = await value.item();
    value.dispose();
    return { loss, gradients: read };
  }

  test('a packed batch equals its documents one by one, forward and backward', async () => {
    const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
    // Rows that hold their documents whole.
    const fit = documents.filter(({ length }) => length <= 20);
    const source = new MemoryDocuments(fit);
    const batches = [];
    for await (const batch of packedPass(source, { batchSize: 2, length: 60 })) batches.push(batch);
    expect(batches.length).toBe(1);
    const [batch] = batches;
    if (batch === undefined) return;
    const state = model.newState(2);
    const packed = await lossAndGradients(model, () =>
      model.loss(ids(batch.inputs, [2, 60]), ids(batch.targets, [2, 60]), { sequenceStarts: ids(batch.starts, [2, 60]), state }),
    );
    state.dispose();
    const predicted = fit.reduce((sum, { length }) => sum + length - 1, 0);
    let loss = 0;
    const sums = packed.gradients.map(({ length }) => new Float64Array(length));
    for (const document of fit) {
      const single = await lossAndGradients(model, () =>
        model.loss(ids(document, [1, document.length]), ids([...document.subarray(1), ignoredTarget], [1, document.length])),
      );
      const weight = (document.length - 1) / predicted;
      loss += weight * single.loss;
      single.gradients.forEach((gradient, i) => {
        const sum = sums[i] as Float64Array;
        for (let j = 0; j < gradient.length; j++) sum[j] = (sum[j] ?? 0) + weight * (gradient[j] ?? 0);
      });
    }
    expectClose([packed.loss], [loss], 2e-6, 'loss');
    for (const [i, { key }] of model.parameters.entries()) expectClose(packed.gradients[i] ?? [], sums[i] ?? [], 1e-5, key);
    model.dispose();
  });

  test('rows that carry the state have the losses of the whole documents, step by step', async () => {
    const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
    const sampler = new PackedSampler(new MemoryDocuments(documents), { ...shape, seed: 6 });
    const lossesOf = async (body: () => Tensor) => {
      const made = scope(body);
      const values = Array.from(await made.data());
      made.dispose();
      return values;
    };
    const expected: number[][] = [];
    for (const document of documents) {
      const targets = [...document.subarray(1), ignoredTarget];
      expected.push(await lossesOf(() => model.tokenLosses(ids(document, [1, document.length]), ids(targets, [1, document.length]))));
    }
    const state = model.newState(shape.batchSize);
    const size = [shape.batchSize, shape.length];
    // Which document a row is in, as the rows themselves tell: by its first token's document in the sampler's state.
    const at: ({ document: number; token: number } | null)[] = [null, null, null];
    const order: number[] = [];
    const source = new MemoryDocuments(documents);
    const told = new PackedSampler(
      { count: source.count, fingerprint: '', close: () => source.close(), open: (i) => (order.push(i), source.open(i)) },
      { ...shape, seed: 6 },
    );
    for (let step = 0; step < 12; step++) {
      const { inputs, targets, starts } = await sampler.next();
      await told.next();
      const losses = await lossesOf(() => model.tokenLosses(ids(inputs, size), ids(targets, size), { sequenceStarts: ids(starts, size), state }));
      const whole = losses.map((_, i) => {
        const row = Math.floor(i / shape.length);
        if (starts[i] === 1) at[row] = { document: order.shift() ?? -1, token: 0 };
        const place = at[row];
        return place ? (expected[place.document]?.[place.token++] ?? NaN) : NaN;
      });
      expectClose(losses, whole, 4e-6, `step ${step}`);
    }
    state.dispose();
    model.dispose();
  });

  test('gradients with a state are those of a state that nothing overwrites', async () => {
    const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
    const document = documents[4] as Int32Array;
    const state = model.newState(1);
    const first = scope(() => model.hidden(ids(document.subarray(0, 20), [1, 20]), { state }));
    first.dispose();
    const same = state.copy();
    const inputs = document.subarray(20, 40);
    const run = (given: typeof state, count: number) =>
      lossAndGradients(model, () => model.loss(ids(inputs.subarray(0, count), [1, count]), ids(document.subarray(21, 21 + count), [1, count]), { state: given }));
    const before = await Promise.all(memoryOf(same).map(({ conv }) => conv.data()));
    const { loss, gradients } = await run(state, 20);
    // Central differences of the loss by the convolutions' weights, which meet the carried inputs.
    for (const [i, parameter] of model.parameters.entries()) {
      if (!parameter.key.endsWith('conv1d.weight')) continue;
      const values = Float32Array.from(await parameter.tensor.data());
      for (const j of [0, 1, 2, 3, 40, 41]) {
        const at = async (shift: number) => {
          const moved = values.slice();
          moved[j] = (values[j] ?? 0) + shift;
          parameter.tensor.write(moved);
          const copy = same.copy();
          const result = await run(copy, 20);
          copy.dispose();
          return result.loss;
        };
        const slope = ((await at(0.03)) - (await at(-0.03))) / 0.06;
        parameter.tensor.write(values);
        expect(Math.abs(slope - (gradients[i]?.[j] ?? NaN)), `${parameter.key} ${j}`).toBeLessThan(2e-4);
      }
    }
    expect(await Promise.all(memoryOf(same).map(({ conv }) => conv.data()))).toEqual(before);
    expect(Number.isFinite(loss)).toBe(true);
    for (const each of [state, same]) each.dispose();
    model.dispose();
  });

  test('held-out documents are evaluated whole, each from its own beginning', async () => {
    const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
    let [sum, tokens] = [0, 0];
    for (const document of documents.filter(({ length }) => length > 1)) {
      const alone = await evaluateSequence(model, document);
      sum += alone.loss * alone.tokens;
      tokens += alone.tokens;
    }
    const packed = await evaluate(model, packedPass(new MemoryDocuments(documents), shape), shape);
    expect(packed.tokens).toBe(tokens);
    expect(packed.loss).toBeCloseTo(sum / tokens, 5);
    model.dispose();
  });

  test('a resumed run equals the uninterrupted one to the bit, wherever it was saved', async () => {
    const steps = 7;
    const make = (seed: number, on = backend()) => new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, on, seed), dataset(), tinyOptions);
    const free = (trainer: ReturnType<typeof make>) => {
      trainer.dispose();
      trainer.model.dispose();
    };
    const end = async (trainer: ReturnType<typeof make>) => {
      const values: unknown[] = [trainer.data.source.state(), await trainer.evaluate()];
      for (const { tensor: t } of trainer.model.parameters) values.push(await t.data());
      for (const { conv, ssm } of memoryOf(trainer.carried)) values.push(await conv.data(), await ssm.data());
      return values;
    };
    const whole = make(3);
    const losses = [];
    for (let i = 0; i < steps; i++) losses.push(await whole.trainStep());
    const expected = await end(whole);
    free(whole);
    for (let before = 0; before < steps; before += 2) {
      const path = folder(`${kernels}.safetensors`);
      const early = make(3);
      for (let i = 0; i < before; i++) await early.trainStep();
      await saveTraining(early, path, 1);
      free(early);
      const fresh = await openBackend('cpu', { kernels, threads: 1, poison: true });
      const late = make(99, fresh);
      await restoreTraining(late, path);
      for (let i = before; i < steps; i++) expect(await late.trainStep()).toEqual(losses[i]);
      expect(await end(late)).toEqual(expected);
      free(late);
      expect(fresh.statistics().liveBuffers).toBe(0);
      await fresh.close();
    }
  });

  test('learns documents that repeat', async () => {
    const cycle = Array.from({ length: 12 }, (_, d) => Int32Array.from({ length: 15 + d }, (_, i) => (d + i) % 7));
    const training = new MemoryDocuments(cycle);
    const trainer = new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3), { training, validation: training }, tinyOptions);
    for (let i = 0; i < 40; i++) await trainer.trainStep();
    expect((await trainer.evaluate()).loss).toBeLessThan(0.5);
    trainer.dispose();
    trainer.model.dispose();
  });

  test('a checkpoint of windows is refused', async () => {
    const tokens = Uint8Array.from({ length: 200 }, (_, i) => i % 29);
    const windows = new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3), { training: tokens, validation: tokens }, tinyOptions);
    const packed = new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3), dataset(), tinyOptions);
    const path = folder(`${kernels}-windows.safetensors`);
    await saveTraining(windows, path, 1);
    await expect(restoreTraining(packed, path)).rejects.toThrow(/another text/);
    for (const trainer of [windows, packed]) {
      trainer.dispose();
      trainer.model.dispose();
    }
  });
});
