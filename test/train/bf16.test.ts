import { describe, expect, test } from 'vitest';
import { platform } from '#platform';
import { mambaConfig } from '../../src/models/index.js';
import { defaultTrainingOptions } from '../../src/train/index.js';
import { openBackend } from '../../src/backend/open.js';
import { TinyRun } from '../support/training.js';

const steps = 200;
const config = mambaConfig({ vocabularySize: 256, dModel: 48, layers: 2 });

describe('training with bf16 products', () => {
  test('ends where training with f32 products ends', { timeout: 120_000 }, async () => {
    const text = (await platform.readFile('data/pride-and-prejudice.txt')).subarray(0, 100_000);
    const finish = async (precision: 'f32' | 'bf16') => {
      const backend = await openBackend('cpu', { precision, poison: true });
      const options = { ...defaultTrainingOptions(steps), batchSize: 4, length: 64 };
      const run = new TinyRun(backend, { text, config, options, seed: 5 });
      const losses = (await run.steps(steps)).map(({ loss }) => loss);
      const heldOut = (await run.trainer.evaluate(20)).loss;
      run.dispose();
      await backend.close();
      return { losses, heldOut };
    };
    const [exact, rounded] = [await finish('f32'), await finish('bf16')];
    // The first loss is the same model's, before rounding could add up; but it is not the same number.
    const start = Math.abs((rounded.losses[0] ?? NaN) / (exact.losses[0] ?? NaN) - 1);
    expect(start).toBeGreaterThan(0);
    expect(start).toBeLessThan(2e-3);
    // Both come from 5.6 nats to 2.3 and differ by some 1e-5 of that: rounding is noise far below that of the batches.
    expect(exact.heldOut).toBeLessThan(2.4);
    expect(Math.abs(rounded.heldOut / exact.heldOut - 1)).toBeLessThan(2e-3);
    const tail = (losses: number[]) => losses.slice(-40).reduce((sum, loss) => sum + loss / 40, 0);
    expect(Math.abs(tail(rounded.losses) / tail(exact.losses) - 1)).toBeLessThan(2e-3);
  });
});
