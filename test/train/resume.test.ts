import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { BatchSampler } from '../../src/data/index.js';
import { restoreTraining, saveTraining } from '../../src/train/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { TinyRun } from '../support/training.js';

const folder = useFolder();

describe.each(compiledKernels)('a resumed run on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test.each([
    { accumulation: 1, before: 1, after: 3 },
    { accumulation: 2, before: 3, after: 6 },
    { accumulation: 3, before: 8, after: 2 },
  ])('equals the uninterrupted one to the bit: %o', async ({ accumulation, before, after }) => {
    const options = { accumulation };
    const path = folder(`${kernels}-${accumulation}.safetensors`);
    const whole = new TinyRun(backend(), { options });
    const wholeSteps = await whole.steps(before + after);
    const wholeEnd = await whole.snapshot();
    whole.dispose();

    const early = new TinyRun(backend(), { options });
    const firstSteps = await early.steps(before);
    await saveTraining(early.trainer, path, 12.5);
    const saved = await early.snapshot();
    early.dispose();

    // A process of its own has a backend of its own; and other weights, which the file must replace.
    const fresh = await openBackend('cpu', { kernels, threads: 2, poison: true });
    const late = new TinyRun(fresh, { options, seed: 99 });
    expect(await restoreTraining(late.trainer, path)).toBe(12.5);
    expect(await late.snapshot()).toEqual(saved);
    const lastSteps = await late.steps(after);
    expect([...firstSteps, ...lastSteps]).toEqual(wholeSteps);
    expect(await late.snapshot()).toEqual(wholeEnd);
    late.dispose();
    expect(fresh.statistics().liveBuffers).toBe(0);
    await fresh.close();
  });

  test('goes on across an epoch boundary, wherever it was saved', async () => {
    const path = folder(`${kernels}-epoch.safetensors`);
    const whole = new TinyRun(backend());
    const perEpoch = new BatchSampler(whole.dataset.training, whole.trainer.options).batchesPerEpoch;
    // The first micro-batch of a step is the last of an epoch, or an epoch ends exactly with a step.
    expect(perEpoch).toBeGreaterThan(4);
    const steps = Math.ceil(perEpoch / 2) + 2;
    const results = await whole.steps(steps);
    expect(whole.trainer.data.source.state()).toMatchObject({ epoch: 1 });
    const end = await whole.snapshot();
    whole.dispose();

    for (let before = Math.floor(perEpoch / 2) - 1; before < steps; before++) {
      const early = new TinyRun(backend());
      await early.steps(before);
      await saveTraining(early.trainer, path, 0);
      early.dispose();
      const late = new TinyRun(backend(), { seed: 99 });
      await restoreTraining(late.trainer, path);
      expect(await late.steps(steps - before), `saved after ${before}`).toEqual(results.slice(before));
      expect(await late.snapshot()).toEqual(end);
      late.dispose();
    }
  });
});
