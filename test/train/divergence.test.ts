import { describe, expect, test } from 'vitest';
import type { Batch } from '../../src/data/index.js';
import { LanguageModel, mambaFamily } from '../../src/models/index.js';
import { DivergenceError, restoreTraining, saveTraining, Trainer, type TrainingData, type TrainingOptions } from '../../src/train/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';
import { useFolder } from '../support/folders.js';
import { plant, type PlantedFault } from '../support/planted.js';
import { tinyConfig, tinyOptions, TinyRun } from '../support/training.js';
import { memoryOf } from '../support/models.js';

const folder = useFolder();
const constant = { peak: 1e-2, warmupSteps: 0, totalSteps: 1000, finalFraction: 1 };

async function failure(body: () => Promise<unknown>): Promise<DivergenceError> {
  const error = await body().then(
    () => expect.fail('expected a divergence'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DivergenceError)) throw error;
  return error;
}

function write(model: LanguageModel, key: string, values: (size: number) => Float32Array): void {
  const { tensor } = model.parameters.find((parameter) => parameter.key === key) ?? expect.fail(key);
  tensor.write(values(tensor.size));
}

describe.each(compiledKernels)('numbers that are not finite, on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test.each([
    { key: 'backbone.embeddings.weight', module: 'embeddings', operation: 'embedding' },
    { key: 'backbone.layers.0.mixer.conv1d.weight', module: 'layers.0.mixer', operation: 'causalConv1d' },
    { key: 'backbone.layers.1.norm.weight', module: 'layers.1.norm', operation: 'rmsNorm' },
    { key: 'backbone.layers.1.mixer.D', module: 'layers.1.mixer', operation: 'selectiveScan' },
    { key: 'backbone.norm_f.weight', module: 'norm_f', operation: 'rmsNorm' },
  ])('a weight of NaN is named: $key', async ({ key, module, operation }) => {
    const run = new TinyRun(backend(), { options: { onDivergence: 'skip' } });
    await run.steps(2);
    write(run.trainer.model, key, (size) => new Float32Array(size).fill(NaN, size - 1));
    const { divergence, message } = await failure(() => run.steps(1));
    expect(divergence).toEqual({
      ...{ step: 3, loss: NaN, gradientNorm: NaN },
      origin: { module, operation, made: 'given', tensor: key, value: NaN },
    });
    expect(message).toContain(`NaN was there before the step: ${key}, which ${operation} in ${module} reads. With such a weight no step can be right.`);
    run.dispose();
  });

  test('a weight that overflows is told from where it does', async () => {
    const run = new TinyRun(backend());
    write(run.trainer.model, 'backbone.layers.1.mixer.A_log', (size) => new Float32Array(size).fill(100));
    const { divergence, message } = await failure(() => run.steps(1));
    expect(divergence.origin).toEqual({ module: 'layers.1.mixer', operation: 'exp', made: 'forward', tensor: expect.any(String) as string, value: Infinity });
    expect(message).toMatch(/Infinity first appears on the way forward, in exp in layers\.1\.mixer: /);
    run.dispose();
  });

  test.each<{ fault: PlantedFault; made: string; tensor: string }>([
    { fault: 'forward', made: 'forward', tensor: 'output' },
    { fault: 'backward', made: 'backward', tensor: 'gradient of input 1' },
    { fault: 'weight', made: 'backward', tensor: 'gradient of backbone.layers.1.mixer.out_proj.weight' },
  ])('one that appears in the step itself is named: $fault; nothing is changed by it', async ({ fault, made, tensor }) => {
    const run = new TinyRun(backend());
    const { trainer } = run;
    plant(trainer.model, 1, fault, () => trainer.step === 2, 0.01);
    await run.steps(2);
    const before = await run.snapshot();
    const { divergence } = await failure(() => run.steps(1));
    expect(divergence).toMatchObject({ step: 3, origin: { module: 'layers.1.mixer', operation: 'planted', made, tensor } });
    expect({ ...(await run.snapshot()), sampler: null }).toEqual({ ...before, sampler: null });
    run.dispose();
  });

  test('a step that is left out is a batch that was never there', async () => {
    const options = { onDivergence: 'skip', schedule: constant, accumulation: 1 } as const;
    const skipping = new TinyRun(backend(), { options });
    plant(skipping.trainer.model, 0, 'backward', () => skipping.trainer.step === 3);
    const steps = [];
    for (let i = 0; i < 7; i++) steps.push(await skipping.trainer.trainStep());
    expect(steps.map(({ step, skipped }) => [step, skipped?.step])).toEqual([1, 2, 3, 4, 5, 6, 7].map((step) => [step, step === 4 ? 4 : undefined]));
    const { step, ...end } = await skipping.snapshot();
    expect(step).toBe(7);

    const without = new TinyRun(backend(), { options });
    await without.steps(3);
    await without.trainer.data.source.next();
    await without.steps(3);
    const { step: taken, ...expected } = await without.snapshot();
    expect(taken).toBe(6);
    expect(end).toEqual(expected);
    for (const run of [skipping, without]) run.dispose();
  });

  test('ten steps in a row are left out, not an eleventh; any other number of them is', async () => {
    const run = new TinyRun(backend(), { options: { onDivergence: 'skip' } });
    const { trainer } = run;
    plant(trainer.model, 0, 'backward', () => trainer.step < 9 || (trainer.step > 9 && trainer.step < 25));
    await run.steps(20);
    expect(trainer.optimiser.step).toBe(1);
    const { divergence, message } = await failure(() => run.steps(1));
    expect(divergence.step).toBe(21);
    expect(message).toContain('The 10 steps before it were left out already.');
    run.dispose();
  });

  test('a single bad batch says nothing of the weights, three in a row do', async () => {
    for (const { bad, sound } of [{ bad: 2, sound: true }, { bad: 3, sound: false }]) {
      const run = new TinyRun(backend(), { options: { accumulation: 1 } });
      await run.steps(2);
      let batch = 0;
      plant(run.trainer.model, 0, 'forward', () => batch++ < bad);
      const before = await run.snapshot();
      expect(await run.trainer.sound()).toBe(sound);
      expect(await run.snapshot()).toEqual(before);
      run.dispose();
    }
  });

  test('saved anywhere around steps that were left out, a resumed run equals the uninterrupted one', async () => {
    const path = folder(`${kernels}-skipping.safetensors`);
    const make = (seed?: number) => {
      const run = new TinyRun(backend(), { options: { onDivergence: 'skip' }, ...(seed === undefined ? {} : { seed }) });
      plant(run.trainer.model, 1, 'forward', () => [2, 3, 5].includes(run.trainer.step));
      return run;
    };
    const whole = make();
    const results = [];
    for (let i = 0; i < 8; i++) results.push(await whole.trainer.trainStep());
    const end = await whole.snapshot();
    const progress = whole.trainer.progress();
    whole.dispose();
    expect(progress).toMatchObject({ skipped: 3, skippedInARow: 0 });
    for (let before = 2; before < 8; before++) {
      const early = make();
      await early.steps(before);
      await saveTraining(early.trainer, path, 0);
      early.dispose();
      const late = make(99);
      await restoreTraining(late.trainer, path);
      for (let i = before; i < 8; i++) expect(await late.trainer.trainStep()).toEqual(results[i]);
      expect(await late.snapshot()).toEqual(end);
      expect(late.trainer.progress()).toEqual(progress);
      late.dispose();
    }
  });

  describe('with a carried state', () => {
    const make = (options: Partial<TrainingOptions>) => {
      const training = new MemoryDocuments(randomDocuments([70, 30, 45, 60, 19, 28]));
      const trainer = new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3), { training, validation: training }, { ...tinyOptions, accumulation: 1, ...options });
      const dispose = () => {
        trainer.dispose();
        trainer.model.dispose();
      };
      return { trainer, dispose };
    };

    test('looking whether the weights are sound changes nothing', async () => {
      const [looked, other] = [make({}), make({})];
      for (let i = 0; i < 4; i++) {
        expect(await looked.trainer.sound()).toBe(true);
        expect(await looked.trainer.trainStep()).toEqual(await other.trainer.trainStep());
      }
      for (const { dispose } of [looked, other]) dispose();
    });

    test('rows that went bad begin anew, the others go on', async () => {
      const { trainer, dispose } = make({ onDivergence: 'skip' });
      // A third of the output is the first of three rows.
      plant(trainer.model, 0, 'forward', () => trainer.step === 1, 1 / 3);
      await trainer.trainStep();
      expect((await trainer.trainStep()).skipped?.origin).toMatchObject({ module: 'layers.0.mixer', operation: 'planted' });
      for (const { ssm, conv } of memoryOf(trainer.carried)) {
        for (const values of [await ssm.data(), await conv.data()]) {
          const row = values.length / 3;
          expect(values.subarray(0, row).every((value) => value === 0)).toBe(true);
          expect(values.every((value) => Number.isFinite(value))).toBe(true);
          for (const other of [1, 2]) expect(values.subarray(other * row, (other + 1) * row).some((value) => value !== 0)).toBe(true);
        }
      }
      for (let i = 0; i < 3; i++) {
        const { loss, skipped } = await trainer.trainStep();
        expect([Number.isFinite(loss), skipped]).toEqual([true, undefined]);
      }
      dispose();
    });

    test('the state itself is named where it is what is bad', async () => {
      const { trainer, dispose } = make({ onDivergence: 'skip' });
      await trainer.trainStep();
      const { ssm } = memoryOf(trainer.carried)[1] ?? expect.fail('no state');
      ssm.write(new Float32Array(ssm.size).fill(NaN));
      expect((await trainer.trainStep()).skipped?.origin).toEqual({
        ...{ module: 'layers.1.mixer', operation: 'selectiveScan', made: 'given', tensor: 'the carried state', value: NaN },
      });
      expect((await trainer.trainStep()).skipped).toBeUndefined();
      dispose();
    });
  });
});

describe('a loss far above the recent ones', () => {
  const backend = useBackend('cpu');
  const shape = { batchSize: 4, length: 32 };

  /** Counts upwards, but for some batches, which are noise. */
  function data(noisy: (batch: number) => boolean): TrainingData {
    let position = 0;
    return {
      source: {
        next(): Batch {
          const random = new Random(5, position);
          const noise = noisy(position++);
          const inputs = Int32Array.from({ length: 128 }, (_, i) => (noise ? random.integer(29) : (i + position) % 29));
          return { inputs, targets: inputs.map((id) => (noise ? random.integer(29) : (id + 1) % 29)) };
        },
        state: () => ({ position }),
        restore: (state) => void ({ position } = state as { position: number }),
      },
      fingerprint: 'counting',
      continuous: false,
      evaluate: () => Promise.reject(new Error('not held out')),
    };
  }

  const make = (noisy: (batch: number) => boolean, options: Partial<TrainingOptions> = {}) => {
    const trainer = new Trainer(LanguageModel.initial(mambaFamily, tinyConfig, backend(), 3), data(noisy), { ...tinyOptions, ...shape, accumulation: 1, schedule: constant, ...options });
    const weights = async () => Promise.all(trainer.model.parameters.map(({ tensor }) => tensor.data()));
    const dispose = () => {
      trainer.dispose();
      trainer.model.dispose();
    };
    return { trainer, weights, dispose };
  };
  const train = async (trainer: Trainer, steps: number) => {
    const skipped = [];
    for (let i = 0; i < steps; i++) skipped.push((await trainer.trainStep()).skipped);
    return skipped;
  };

  test('stops before it changes anything, and names step, median, layer and operation', async () => {
    const { trainer, weights, dispose } = make((batch) => batch === 59);
    await train(trainer, 59);
    const before = await weights();
    const { divergence, message } = await failure(() => trainer.trainStep());
    expect(divergence).toMatchObject({ step: 60, origin: { made: 'backward', tensor: expect.stringMatching(/^gradient of backbone\./) as string } });
    const { loss, spike, origin } = divergence;
    expect(loss).toBeGreaterThan(spike?.limit ?? NaN);
    expect(spike?.limit).toBeGreaterThanOrEqual((spike?.median ?? NaN) + 1);
    expect(origin?.value).toBeGreaterThan(1);
    expect(message).toMatch(/^train: step 60 has loss \S+ and gradient norm \S+, far above the recent median loss \S+ \(limit \S+\); of all gradients that of \w+ in \S+ grew most, \S+ times: gradient of backbone\.\S+\. Hint: a lower/);
    expect(await weights()).toEqual(before);
    expect(trainer.step).toBe(59);
    dispose();
  });

  test('is left out where asked, and does not move what counts as recent', async () => {
    const { trainer, weights, dispose } = make((batch) => batch >= 50 && batch < 56, { onDivergence: 'skip' });
    await train(trainer, 50);
    const [before, { recentLosses }] = [await weights(), trainer.progress()];
    const skipped = await train(trainer, 6);
    expect(skipped.map((divergence) => divergence?.spike?.median)).toEqual(new Array(6).fill(skipped[0]?.spike?.median));
    expect(await weights()).toEqual(before);
    expect(trainer.progress()).toEqual({ skipped: 6, skippedInARow: 6, recentLosses, lossScale: null });
    expect(await train(trainer, 3)).toEqual([undefined, undefined, undefined]);
    dispose();
  });

  test('a resumed run knows the recent losses', async () => {
    const path = folder('spike.safetensors');
    const early = make((batch) => batch === 59);
    await train(early.trainer, 55);
    await saveTraining(early.trainer, path, 0);
    early.dispose();
    const late = make((batch) => batch === 59);
    await restoreTraining(late.trainer, path);
    await train(late.trainer, 4);
    expect((await failure(() => late.trainer.trainStep())).divergence.step).toBe(60);
    late.dispose();
  });

  test('is none in the first 32 steps', async () => {
    const { trainer, dispose } = make((batch) => batch === 30);
    expect(await train(trainer, 35)).toEqual(new Array(35).fill(undefined));
    dispose();
  });
});
