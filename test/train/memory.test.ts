import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { TinyRun } from '../support/training.js';

describe.each(compiledKernels)('training on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('steps and evaluations neither leak nor need more memory with time', async () => {
    const run = new TinyRun(backend());
    await run.steps(1);
    await run.trainer.evaluate();
    backend().resetStatistics();
    const { liveBuffers, liveBytes } = backend().statistics();
    await run.steps(1);
    await run.trainer.evaluate();
    const { peakBytes } = backend().statistics();
    await run.steps(20);
    await run.trainer.evaluate();
    expect(backend().statistics()).toMatchObject({ liveBuffers, liveBytes, peakBytes });
    run.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('accumulation does not need more memory but for its losses', async () => {
    const peak = async (accumulation: number) => {
      const run = new TinyRun(backend(), { options: { accumulation } });
      backend().resetStatistics();
      await run.steps(1);
      const { peakBytes } = backend().statistics();
      run.dispose();
      return peakBytes;
    };
    expect((await peak(9)) - (await peak(1))).toBe(8 * 4);
  });
});

describe('accumulation', () => {
  // Adam divides by the gradient's size, which blows rounding errors up where a gradient is near zero: a large epsilon
  // makes a step as smooth as the gradients are.
  const options = { epsilon: 1e-2, weightDecay: 0.1 };

  test.each(['auto', 'wasm'] as const)('of 2 × 3 sequences equals one batch of 6 on %s', async (kernels) => {
    const backend = await openBackend('cpu', { kernels, threads: 2, poison: true });
    const twice = new TinyRun(backend, { options: { ...options, batchSize: 3, accumulation: 2 } });
    const once = new TinyRun(backend, { options: { ...options, batchSize: 6, accumulation: 1 } });
    for (let step = 0; step < 4; step++) {
      const [[small], [large]] = [await twice.steps(1), await once.steps(1)];
      expectClose([small?.loss ?? NaN], [large?.loss ?? NaN], 1e-6, `loss of step ${step}`);
      expectClose([small?.gradientNorm ?? NaN], [large?.gradientNorm ?? NaN], 1e-5, `gradient norm of step ${step}`);
    }
    for (const [i, { key, tensor }] of once.trainer.model.parameters.entries()) {
      expectClose((await twice.trainer.model.parameters[i]?.tensor.data()) ?? [], await tensor.data(), 1e-5, key);
    }
    twice.dispose();
    once.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
    await backend.close();
  });
});
