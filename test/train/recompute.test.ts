import { describe, expect, test } from 'vitest';
import { recompute, valueAndGradients } from '../../src/autograd/index.js';
import { LanguageModel, mambaConfig, mambaFamily } from '../../src/models/index.js';
import { exp, full, multiply, sum } from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { DivergenceError, nextToken, Trainer, type TrainingOptions } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';
import { plant, type PlantedFault } from '../support/planted.js';
import { tinyConfig, tinyOptions, TinyRun } from '../support/training.js';

const backend = useBackend('cpu', { kernels: 'auto' });

describe('a part that is computed again', () => {
  const three = () => full(backend(), [4], 3);
  /** How often a part is computed on the way forward and on the way back. */
  const counts = [0, 0];
  const counted = (again: boolean) => { counts[again ? 1 : 0] = (counts[again ? 1 : 0] ?? 0) + 1; };

  interface Part {
    readonly name: string;
    readonly recomputed: (x: Tensor, w: Tensor) => Tensor;
    readonly plain: (x: Tensor, w: Tensor) => Tensor;
    readonly counts: readonly [forward: number, back: number];
  }
  const parts: readonly Part[] = [
    {
      name: 'reads a parameter that nobody names',
      recomputed: (x, w) => recompute([x], ([one], again) => (counted(again), [multiply(exp(one as Tensor), w)]))[0] as Tensor,
      plain: (x, w) => multiply(exp(x), w),
      counts: [1, 1],
    },
    {
      name: 'passes on what it was given',
      recomputed(x, w) {
        const [y, same] = recompute([x], ([one], again) => (counted(again), [multiply(exp(one as Tensor), w), (one as Tensor).retain()])) as [Tensor, Tensor];
        return multiply(y, same);
      },
      plain: (x, w) => multiply(multiply(exp(x), w), x),
      counts: [1, 1],
    },
    {
      name: 'has such a part',
      recomputed: (x, w) =>
        recompute([x], ([outer]) => recompute([outer as Tensor], ([one], again) => (counted(again), [multiply(exp(one as Tensor), w)])))[0] as Tensor,
      plain: (x, w) => multiply(exp(x), w),
      counts: [2, 1],
    },
    {
      name: 'makes a constant',
      recomputed: (x, w) => recompute([x], ([one], again) => (counted(again), [multiply(multiply(exp(one as Tensor), w), three())]))[0] as Tensor,
      plain: (x, w) => multiply(multiply(exp(x), w), three()),
      counts: [1, 1],
    },
  ];

  test.each(parts)('$name', async ({ recomputed, plain, counts: expected }) => {
    const [x, w] = [tensor(backend(), [0.5, -1, 2, 0.25], [4]), tensor(backend(), [1, 2, 3, -4], [4])];
    const read = async (body: () => Tensor) => {
      const { value, gradients } = scope(() => valueAndGradients([x, w], () => sum(body())));
      const all = [];
      for (const one of [value, ...gradients]) {
        all.push(await one?.data());
        one?.dispose();
      }
      return all;
    };
    counts.fill(0);
    expect(await read(() => recomputed(x, w))).toEqual(await read(() => plain(x, w)));
    expect(counts).toEqual(expected);
    for (const one of [x, w]) one.dispose();
  });
});

describe('training that runs blocks again', () => {
  test.each<[string, Partial<TrainingOptions>]>([
    ['one batch a step', { accumulation: 1 }],
    ['two batches a step', { accumulation: 2 }],
    ['without clipping', { accumulation: 3, maxGradientNorm: Infinity }],
  ])('is the same to the bit on documents with a carried state: %s', async (_, options) => {
    const training = new MemoryDocuments(randomDocuments([70, 30, 45, 3, 19, 28]));
    const results = [];
    for (const recomputes of [false, true]) {
      const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
      const trainer = new Trainer(model, { training, validation: training }, { ...tinyOptions, ...options, recompute: recomputes });
      const steps = [];
      for (let i = 0; i < 4; i++) steps.push(await trainer.trainStep());
      const values = new Map<string, unknown>();
      for (const { key, tensor: parameter } of model.parameters) values.set(key, await parameter.data());
      for (const [name, memory] of trainer.carried?.named() ?? []) values.set(name, await memory.data());
      results.push({ steps, values, evaluation: await trainer.evaluate() });
      trainer.dispose();
      model.dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  test('takes less memory the deeper the model', async () => {
    const peak = async (layers: number, recomputes: boolean) => {
      const config = mambaConfig({ vocabularySize: 29, dModel: 32, layers });
      const run = new TinyRun(backend(), { config, options: { batchSize: 3, length: 64, accumulation: 1, recompute: recomputes } });
      const before = backend().statistics().liveBytes;
      backend().resetStatistics();
      await run.steps(1);
      const { peakBytes } = backend().statistics();
      run.dispose();
      return peakBytes - before;
    };
    const ratios = [];
    for (const layers of [1, 4, 12]) ratios.push((await peak(layers, true)) / (await peak(layers, false)));
    // A block keeps x and the stream before it, 2·D numbers a token, of about 22·D; gradients and weights are besides.
    expect(ratios[0]).toBeLessThan(1.2);
    expect(ratios[1]).toBeLessThan(0.5);
    expect(ratios[2]).toBeLessThan(0.3);
  });

  test.each<{ fault: PlantedFault; made: string; tensor: string }>([
    { fault: 'forward', made: 'forward', tensor: 'output' },
    { fault: 'backward', made: 'backward', tensor: 'gradient of input 1' },
    { fault: 'weight', made: 'backward', tensor: 'gradient of backbone.layers.1.mixer.out_proj.weight' },
  ])('names where a NaN appears: $fault', async ({ fault, made, tensor: name }) => {
    const run = new TinyRun(backend(), { options: { recompute: true } });
    plant(run.trainer.model, 1, fault, () => run.trainer.step === 1, 0.01);
    await run.steps(1);
    const error = await run.steps(1).then(() => null, (thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DivergenceError);
    expect((error as DivergenceError).divergence).toMatchObject({ step: 2, origin: { module: 'layers.1.mixer', operation: 'planted', made, tensor: name } });
    run.dispose();
  });

  test('names a weight of NaN', async () => {
    const run = new TinyRun(backend(), { options: { recompute: true } });
    const { tensor: weight } = run.trainer.model.parameters.find(({ key }) => key === 'backbone.layers.1.mixer.D') ?? expect.fail('no D');
    weight.write(new Float32Array(weight.size).fill(NaN));
    const error = await run.steps(1).then(() => null, (thrown: unknown) => thrown);
    expect((error as DivergenceError).divergence.origin).toEqual({
      ...{ module: 'layers.1.mixer', operation: 'selectiveScan', made: 'given', tensor: 'backbone.layers.1.mixer.D', value: NaN },
    });
    run.dispose();
  });

  test('an objective says it itself', () => {
    const model = LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3);
    const text = new Uint8Array(100);
    expect(() => new Trainer(nextToken(model, tinyOptions), { training: text, validation: text }, { ...tinyOptions, recompute: true })).toThrow(
      'Trainer: recompute is true; expected left out for an objective. Hint: the objective decides: nextToken takes it',
    );
    model.dispose();
  });
});
