import { readFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { Decoder } from '../../src/generate/index.js';
import { saveModel } from '../../src/models/index.js';
import { evaluate, evaluateSequence, restoreTraining, saveTraining, Trainer } from '../../src/train/index.js';
import { ArgumentError, DisposedError } from '../../src/util/errors.js';
import { useMemoryKind } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { randomIds, smallModel } from '../support/models.js';
import { TinyRun, tinyOptions } from '../support/training.js';

describe.each(['native', 'wasm'] as const)('one trainer, several calls at once, %s', (kind) => {
  const backend = useMemoryKind(kind);
  const path = useFolder();

  /** What each does to a run, and what it tells. */
  const calls: Record<string, (run: TinyRun, file: string) => Promise<unknown>> = {
    trainStep: ({ trainer }) => trainer.trainStep(),
    evaluate: ({ trainer }) => trainer.evaluate(),
    sound: ({ trainer }) => trainer.sound(),
    async saveTraining({ trainer }, file) {
      await saveTraining(trainer, file, 0);
      return readFileSync(file);
    },
    restoreTraining: ({ trainer }, file) => restoreTraining(trainer, file),
  };

  test.each([
    [['trainStep', 'trainStep', 'trainStep']],
    [['trainStep', 'evaluate', 'trainStep', 'sound', 'evaluate']],
    [['trainStep', 'saveTraining', 'trainStep', 'trainStep', 'restoreTraining', 'trainStep', 'evaluate']],
  ])('%j begun at once give what they give one by one', async (names) => {
    const outcome = async (name: string, atOnce: boolean) => {
      const run = new TinyRun(backend());
      const begin = (call: string) => Promise.resolve(calls[call]?.(run, path(`${name}.safetensors`)));
      const results: unknown[] = [];
      if (atOnce) results.push(...(await Promise.all(names.map(begin))));
      else for (const call of names) results.push(await begin(call));
      const outcome = { results, after: await run.snapshot() };
      run.dispose();
      return outcome;
    };
    expect(await outcome('at once', true)).toEqual(await outcome('one by one', false));
  });

  test('a call that fails lets the next ones go on; calls after dispose() fail', async () => {
    const run = new TinyRun(backend());
    const missing = restoreTraining(run.trainer, path('missing.safetensors'));
    const step = run.trainer.trainStep();
    await expect(missing).rejects.toThrow();
    expect((await step).step).toBe(1);
    const late = [run.trainer.trainStep(), run.trainer.evaluate(), run.trainer.sound(), saveTraining(run.trainer, path('late.safetensors'), 0)];
    run.dispose();
    for (const one of late) await expect(one).rejects.toThrow(/: the trainer was disposed/);
    for (const name of ['trainStep', 'evaluate', 'sound'] as const) await expect(run.trainer[name]()).rejects.toThrow(DisposedError);
    expect(() => run.trainer.optimiser.moments()).toThrow(new DisposedError('AdamW.moments: the optimiser was disposed'));
  });

  const readings: [operation: string, read: (run: TinyRun, meanwhile: () => void) => Promise<unknown>][] = [
    ['evaluate', (run, onProgress) => evaluate(run.trainer.model, [1, 2].map(() => run.batch()), tinyOptions, { onProgress })],
    ['evaluate', (run, onProgress) => evaluateSequence(run.trainer.model, randomIds(60, 29), { chunkLength: 40, onProgress })],
    [
      'saveModel',
      async ({ trainer: { model } }, meanwhile) => {
        const { tensor } = (model.finalNorm as NonNullable<typeof model.finalNorm>).weight;
        const data = tensor.data.bind(tensor);
        const reading = vi.spyOn(tensor, 'data').mockImplementation((into) => {
          meanwhile();
          return data(into);
        });
        await saveModel(model, path('torn')).finally(() => {
          reading.mockRestore();
        });
      },
    ],
  ];

  test.each(readings)('%s of a model that a step changes meanwhile says so', async (operation, read) => {
    const run = new TinyRun(backend());
    await read(run, () => undefined);
    const { tensor } = run.trainer.model.embeddings.weight;
    const reading = read(run, () => {
      tensor.write(new Float32Array(tensor.size).fill(0.5));
    });
    await expect(reading).rejects.toThrow(ArgumentError);
    await expect(reading).rejects.toThrow(
      `${operation}: model is changed by a training step, or a write; expected weights that stay as they are meanwhile.`,
    );
    run.dispose();
  });
});

describe('one model, two trainers', () => {
  const backend = useMemoryKind('native');

  test.each([false, true])('the second is refused until the first is disposed (documents: %s)', async (documents) => {
    const run = new TinyRun(backend());
    const { model } = run.trainer;
    const { source } = run.trainer.data;
    const data = documents ? { ...run.trainer.data, source, continuous: true } : run.dataset;
    const { liveBuffers } = backend().statistics();
    const second = () => new Trainer(model, data, tinyOptions);
    expect(second).toThrow(ArgumentError);
    expect(second).toThrow(/AdamW: parameter backbone\.\S+ is updated by another optimiser; expected a model that nothing else trains\. Hint: one trainer at a time/);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);

    const [{ loss: first } = { loss: NaN }] = await run.steps(1);
    run.trainer.dispose();
    const next = second();
    const { loss } = await next.trainStep();
    expect(loss).not.toBe(first);
    expect(loss).toBeLessThan(4);
    for (const one of [next, model]) one.dispose();
  });
});

describe.each(['native', 'wasm', 'reference'] as const)('a decoder of a model that is trained, %s', (kind) => {
  const backend = useMemoryKind(kind);

  test('decodes with the weights as they are; throws where they have moved', async () => {
    const model = smallModel(backend(), { vocabularySize: 29, tiedHead: false });
    const states = [model.newState(1), model.newState(1)] as const;
    const early = new Decoder(model, states[0]);
    await early.step([1]);
    const run = new TinyRun(backend(), { model });
    const late = new Decoder(model, states[1]);
    await expect(early.step([2])).rejects.toThrow(/replay: a tensor of the captured step was freed: '\w+' of \w+, f32, \d+ numbers\. Hint: .*a trainer/);
    expect(states[0].position).toBe(1);

    const before = Float32Array.from(await late.step([3]));
    await run.steps(1);
    const [fresh, zero] = [model.newState(1), model.newState(1)];
    states[1].assign(zero);
    const after = Float32Array.from(await late.step([3]));
    expect(after).not.toEqual(before);
    const decoder = new Decoder(model, fresh);
    expect(after).toEqual(Float32Array.from(await decoder.step([3])));
    for (const one of [early, late, decoder, fresh, zero, ...states]) one.dispose();
    run.dispose();
  });
});
