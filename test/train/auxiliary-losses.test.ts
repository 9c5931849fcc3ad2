/** Losses that a model adds to the task's in training, and what else it measures. */
import { expect, test } from 'vitest';
import { LanguageModel, moeMambaFamily, switchTransformerFamily } from '../../src/models/index.js';
import { Auxiliary } from '../../src/nn/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { TinyRun } from '../support/training.js';

const backend = useBackend('cpu', { kernels: 'auto' });

const sizes = { vocabularySize: 29, dModel: 16, layers: 2, experts: 4, expertSize: 12, balanceWeight: 0.5, zWeight: 0.25, capacityFactor: 0.7 };
const models = {
  'moe-mamba': () => LanguageModel.initial(moeMambaFamily, moeMambaFamily.configOf({ ...sizes, parallel: true }), backend(), 3),
  'switch-transformer': () => LanguageModel.initial(switchTransformerFamily, switchTransformerFamily.configOf(sizes), backend(), 3),
};

test.each(Object.entries(models))('%s: a step reports the cross-entropy, each auxiliary loss, and the tokens that each layer dropped', async (_, make) => {
  const run = new TinyRun(backend(), { model: make() as unknown as LanguageModel });
  const { model, data, options } = run.trainer;
  const position = data.source.state();
  const expected = { loss: 0, balance: 0, z: 0, dropped: [0, 0] };
  for (let micro = 0; micro < options.accumulation; micro++) {
    const { inputs, targets } = await data.source.next();
    const put = (ids: Int32Array) => tensor(backend(), ids, [options.batchSize, options.length], 'i32');
    const auxiliary = new Auxiliary();
    const total = scope(() => model.loss(put(inputs), put(targets), { auxiliary }));
    const { losses: { balance = NaN, z = NaN }, measures: { dropped = [] } } = await auxiliary.values();
    expected.loss += ((await total.item()) - balance - z) / options.accumulation;
    expected.balance += balance / options.accumulation;
    expected.z += z / options.accumulation;
    expected.dropped = expected.dropped.map((sum, i) => sum + (dropped[i] ?? NaN) / options.accumulation);
    for (const one of [auxiliary, total]) one.dispose();
  }
  data.source.restore(position);
  const { loss, auxiliaryLosses, measures } = await run.trainer.trainStep();
  expectClose([loss, auxiliaryLosses?.['balance'] ?? NaN, auxiliaryLosses?.['z'] ?? NaN], [expected.loss, expected.balance, expected.z], 1e-5, 'losses');
  expectClose(measures?.['dropped'] ?? [], expected.dropped, 1e-6, 'dropped');
  expect(Object.keys(auxiliaryLosses ?? {}).sort()).toEqual(['balance', 'z']);
  // Even shares would balance at 0.5 a layer, and a capacity of 0.7 shares drops 0.3 of the tokens at least.
  expect(expected.balance).toBeGreaterThanOrEqual(2 * 0.5 * 0.99);
  expect(Math.min(...expected.dropped)).toBeGreaterThanOrEqual(0.3);
  run.dispose();
});

test('recomputing blocks changes nothing but the order of sums', async () => {
  const runs = [false, true].map((recompute) => new TinyRun(backend(), { model: models['moe-mamba']() as unknown as LanguageModel, options: { recompute } }));
  for (let step = 0; step < 3; step++) {
    const [kept, again] = await Promise.all(runs.map(({ trainer }) => trainer.trainStep()));
    const numbers = (result: typeof kept) => [result?.loss ?? NaN, result?.gradientNorm ?? NaN, ...Object.values(result?.auxiliaryLosses ?? {}), ...(result?.measures?.['dropped'] ?? [])];
    expect(numbers(kept)).toHaveLength(6);
    expectClose(numbers(again), numbers(kept), 1e-6, `step ${step}`);
  }
  for (const run of runs) run.dispose();
});

test('an evaluation is the cross-entropy alone, and drops no token', async () => {
  const run = new TinyRun(backend(), { model: models['moe-mamba']() as unknown as LanguageModel });
  const { model, options } = run.trainer;
  const { inputs, targets } = run.batch();
  const put = (ids: Int32Array) => tensor(backend(), ids, [options.batchSize, options.length], 'i32');
  const [plain, auxiliary] = [scope(() => model.loss(put(inputs), put(targets))), new Auxiliary()];
  const inTraining = scope(() => model.loss(put(inputs), put(targets), { auxiliary }));
  expectClose([(await run.trainer.evaluate(1)).loss], [await plain.item()], 1e-5, 'evaluation');
  expect(await inTraining.item()).toBeGreaterThan((await plain.item()) + 0.5);
  for (const one of [plain, inTraining, auxiliary]) one.dispose();
  run.dispose();
});

test('a model without experts reports neither', async () => {
  const run = new TinyRun(backend());
  const result = await run.trainer.trainStep();
  expect(result).not.toHaveProperty('auxiliaryLosses');
  expect(result).not.toHaveProperty('measures');
  run.dispose();
});
