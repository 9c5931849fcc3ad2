import { describe, expect, test } from 'vitest';
import { mambaConfig, LanguageModel, type MambaConfig, mambaFamily } from '../../src/models/index.js';
import { evaluateAnswers, inductionByLength, inductionHeads, selectiveCopying, TaskBatches, taskData } from '../../src/tasks/index.js';
import { defaultTrainingOptions, Trainer } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';
import { smallModel } from '../support/models.js';
import { isNight } from '../support/rare-cases.js';

describe('tasks', () => {
  const backend = useBackend('cpu');

  async function accuracyAfterTraining(ssm: MambaConfig['ssm'], steps: number): Promise<number> {
    const task = selectiveCopying({ length: 64, tokens: 4, vocabularySize: 8 });
    const config = mambaConfig({ vocabularySize: 8, dModel: 64, layers: 2, ssm, initialisation: { embeddingDeviation: 0.25 } });
    const model = LanguageModel.initial(mambaFamily, config, backend(), 1);
    const usual = defaultTrainingOptions(steps);
    const schedule = { ...usual.schedule, peak: 6e-3 };
    const data = taskData(task, { batchSize: 16, batches: 16, seed: 1 });
    const trainer = new Trainer(model, data, { ...usual, schedule, batchSize: 16, length: task.length, weightDecay: 0 });
    while (trainer.step < steps) await trainer.trainStep();
    const { accuracy = NaN, tokens } = await trainer.evaluate();
    expect(tokens).toBe(16 * 16 * 4);
    trainer.dispose();
    model.dispose();
    return accuracy;
  }

  // Half a minute of training: a test of the night.
  test.runIf(isNight)('selective copying is learnt by S6 and not by a time-invariant layer', async () => {
    expect(await accuracyAfterTraining('s6', 1200)).toBeGreaterThan(0.96);
    expect(await accuracyAfterTraining('lti', 1200)).toBeLessThan(0.85);
  });

  test.each([
    { name: 'answers at the end', task: inductionHeads({ length: 61, vocabularySize: 23 }) },
    { name: 'answers in several chunks', task: selectiveCopying({ length: 50, tokens: 11, vocabularySize: 23 }) },
  ])('read in chunks equals read at once: $name', async ({ task }) => {
    for (const ssm of ['s6', 'lti'] as const) {
      const model = smallModel(backend(), { ssm });
      const evaluation = (chunkLength: number) =>
        evaluateAnswers(model, new TaskBatches(task, { batchSize: 3, seed: 2 }), { batchSize: 3, length: 61, batches: 5, chunkLength });
      const whole = await evaluation(61);
      for (const chunkLength of [1, 7, 60, 1000]) {
        const { loss, ...rest } = await evaluation(chunkLength);
        expect(rest).toEqual({ tokens: whole.tokens, accuracy: whole.accuracy });
        expect(loss).toBeCloseTo(whole.loss, 4);
      }
      model.dispose();
    }
  });

  test('accuracy counts right answers, and the loss is that of training', async () => {
    const task = selectiveCopying({ length: 9, tokens: 3, vocabularySize: 23 });
    const model = smallModel(backend());
    const data = taskData(task, { batchSize: 2, batches: 4, seed: 1 });
    const evaluation = await data.evaluate(model, Infinity);
    expect(evaluation.tokens).toBe(4 * 2 * 3);
    expect((await data.evaluate(model, 1)).tokens).toBe(2 * 3);
    // An untrained model knows nothing: ln V nats, and one in V right.
    expect(evaluation.loss).toBeGreaterThan(1);
    expect(evaluation.accuracy).toBeLessThan(0.5);
    model.dispose();
  });

  test('induction by length: lengths double, memory does not', async () => {
    const model = smallModel(backend());
    const seen: number[] = [];
    for await (const { length, accuracy, examples } of inductionByLength(model, { longest: 300, examples: 6, seed: 1 })) {
      seen.push(length);
      expect(examples).toBe(6);
      expect(accuracy * 6).toBeCloseTo(Math.round(accuracy * 6));
    }
    expect(seen).toEqual([64, 128, 256]);
    await expect(inductionByLength(model, { longest: 63, examples: 6, seed: 1 }).next()).rejects.toThrow('expected an integer ≥ 64');
    model.dispose();
  });
});
