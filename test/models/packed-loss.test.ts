import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { splitText } from '../../src/data/index.js';
import { mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { packedParameters, portableWeightDTypes } from '../../src/models/packing.js';
import type { Tensor } from '../../src/tensor/index.js';
import { defaultTrainingOptions, evaluateSequence, Trainer } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';

/** How much a format may add to the loss, nats a byte: about three times what it adds. */
const limits = { f32: 1e-6, bf16: 5e-4, int8: 5e-4, int4: 0.03 };

describe('a model of bytes that has learnt something', () => {
  const backend = useBackend('cpu', { poison: false });

  test('loses little by fewer bits', { timeout: 300_000 }, async () => {
    const text = readFileSync(new URL('../../data/pride-and-prejudice.txt', import.meta.url)).subarray(0, 200_000);
    const dataset = splitText(text, 0.1);
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 64, layers: 2 }), backend(), 1);
    const steps = 300;
    const trainer = new Trainer(model, dataset, {
      ...defaultTrainingOptions(steps),
      batchSize: 8,
      length: 64,
      schedule: { peak: 4e-3, warmupSteps: 20, totalSteps: steps, finalFraction: 0.1 },
    });
    for (let step = 0; step < steps; step++) await trainer.trainStep();
    const parameters = new Map(model.parameters.map(({ key, tensor }) => [key, tensor]));
    const losses: Record<string, number> = {};
    for (const dtype of portableWeightDTypes) {
      const packed = new LanguageModel(mambaFamily, model.config, backend(), packedParameters((key) => (parameters.get(key) as Tensor).retain(), dtype));
      losses[dtype] = (await evaluateSequence(packed, dataset.validation)).loss;
      packed.dispose();
    }
    const { f32 = NaN } = losses;
    // A uniform guess costs 5.5 nats, the frequencies of the letters about 3.
    expect(f32).toBeLessThan(2.4);
    for (const dtype of portableWeightDTypes) expect((losses[dtype] ?? NaN) - f32, dtype).toBeLessThan(limits[dtype]);
    trainer.dispose();
    model.dispose();
  });
});
