import { describe, expect, test, vi } from 'vitest';
import { splitDocuments } from '../../src/data/index.js';
import { defaultTrainingOptions, Trainer } from '../../src/train/index.js';
import { LossScale } from '../../src/train/loss-scale.js';
import { tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';
import { smallModel } from '../support/models.js';

describe('the loss scale', () => {
  test('is halved by an overflow, down to 1, and doubled by 500 steps without one', () => {
    const scale = new LossScale({ value: 4, goodSteps: 0 });
    scale.update(false);
    expect(scale.value).toBe(2);
    for (let step = 0; step < 499; step++) scale.update(true);
    expect(scale.value).toBe(2);
    scale.update(true);
    expect(scale.state).toEqual({ value: 4, goodSteps: 0 });
    for (let step = 0; step < 5; step++) scale.update(false);
    expect(scale.value).toBe(1);
  });
});

describe('training in mixed precision', () => {
  const mixed = useBackend('reference', { precision: 'f16' });
  const exact = useBackend('reference');
  const options = { ...defaultTrainingOptions(6), batchSize: 2, length: 9 };

  /** A trainer on documents, so that there is a state to carry, and its losses step by step. */
  function begin(backend: ReturnType<typeof mixed>) {
    const model = smallModel(backend);
    const source = new MemoryDocuments(randomDocuments([30, 11, 25, 40, 8, 33], 23));
    const trainer = new Trainer(model, splitDocuments(source, 0.2), options);
    const dispose = () => {
      trainer.dispose();
      model.dispose();
    };
    return { trainer, dispose };
  }

  test('loses little by rounding products, and tells the scale', async () => {
    const [ours, right] = [begin(mixed()), begin(exact())];
    for (let step = 0; step < 4; step++) {
      const [result, expected] = [await ours.trainer.trainStep(), await right.trainer.trainStep()];
      expect(result.lossScale).toBe(2 ** 16);
      expect(expected).not.toHaveProperty('lossScale');
      expect(Math.abs(result.loss - expected.loss)).toBeLessThan(5e-3 * expected.loss);
      expect(Math.abs(result.gradientNorm - expected.gradientNorm)).toBeLessThan(2e-2 * expected.gradientNorm);
    }
    ours.dispose();
    right.dispose();
  });

  test('does a step that overflows again, with half the scale, as if nothing had been', async () => {
    const [tried, smooth] = [begin(mixed()), begin(mixed())];
    await tried.trainer.trainStep();
    await smooth.trainer.trainStep();
    const norm = vi.spyOn(tried.trainer.optimiser, 'gradientNorm');
    norm.mockImplementationOnce(() => tensor(mixed(), [Infinity], []));
    const [result, expected] = [await tried.trainer.trainStep(), await smooth.trainer.trainStep()];
    expect(norm).toHaveBeenCalledTimes(2);
    expect(result).toEqual({ ...expected, lossScale: 2 ** 15, gradientNorm: expect.closeTo(expected.gradientNorm, 6) as number });
    expect(tried.trainer.progress().lossScale).toEqual({ value: 2 ** 15, goodSteps: 1 });

    const resumed = begin(mixed());
    resumed.trainer.restoreProgress(2, tried.trainer.progress());
    expect(resumed.trainer.progress().lossScale).toEqual({ value: 2 ** 15, goodSteps: 1 });
    for (const { dispose } of [tried, smooth, resumed]) dispose();
  });
});
