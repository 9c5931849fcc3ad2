import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { PlanBackend, type PlannedLaunch } from '../../src/backend/plan/plan-backend.js';
import { Decoder } from '../../src/generate/index.js';
import { mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { countParameters } from '../../src/nn/index.js';
import { embedding } from '../../src/ops/index.js';
import { empty, scope, type Backend } from '../../src/tensor/index.js';
import { BackendError } from '../../src/util/errors.js';
import { TinyRun } from '../support/training.js';
import { idTensor, smallModel } from '../support/models.js';

/** Launches by kernel. */
function countByKernel(launches: readonly PlannedLaunch[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kernel } of launches) counts[kernel] = (counts[kernel] ?? 0) + 1;
  return counts;
}

const total = (launches: readonly PlannedLaunch[], what: 'bytesRead' | 'bytesWritten' | 'operations') =>
  launches.reduce((sum, launch) => sum + launch[what], 0);

/** The launches of a decoded token; on the plan backend the logits cannot be read. */
async function decodeStep(model: LanguageModel, backend: PlanBackend): Promise<PlannedLaunch[]> {
  const state = model.newState(1);
  const decoder = new Decoder(model, state);
  backend.resetStatistics();
  await expect(decoder.step([0])).rejects.toThrow(BackendError);
  const launches = [...backend.launches];
  expect(decoder.launches).toBe(launches.length);
  decoder.dispose();
  state.dispose();
  return launches;
}

/** The loss of two layers and its gradients by every parameter. */
const gradientLaunches = {
  embedding: 1,
  embedding_backward: 1,
  rms_norm: 3,
  rms_norm_backward: 3,
  // Each product of the forward pass, and two of each in the backward pass.
  gemm: 27,
  causal_conv1d: 2,
  causal_conv1d_backward: 2,
  unary: 4,
  unary_backward: 4,
  selective_scan: 2,
  selective_scan_backward: 2,
  // The head: losses and its two gradients in one pass, multiplied later by what comes from above.
  token_losses_in_place: 1,
  counted_scale: 1,
  scaled_sum: 1,
  multiply_in_place: 2,
  // The gradient the scalar loss begins with.
  fill: 1,
  // Gradients of what is used twice: each layer's convolved input, the residual stream, the tied embedding.
  accumulate: 4,
  // Gradients of the parts of in_proj's and x_proj's outputs, put together.
  copy_rows: 10,
};

const ids = (backend: Backend, batch: number, length: number) => idTensor(backend, new Int32Array(batch * length), [batch, length]);

describe('launches of a model of two layers', () => {
  test('a decoded token', async () => {
    const backend = new PlanBackend();
    const model = smallModel(backend);
    expect(countByKernel(await decodeStep(model, backend))).toEqual({
      embedding: 1,
      rms_norm: 3,
      // in_proj, x_proj, dt_proj and out_proj of each layer, and the head
      gemm: 9,
      causal_conv1d_step: 2,
      selective_scan_step: 2,
    });
    model.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
  });

  test('a forward pass', () => {
    const backend = new PlanBackend();
    const model = smallModel(backend);
    backend.resetStatistics();
    scope(() => model.forward(ids(backend, 2, 30))).dispose();
    expect(countByKernel(backend.launches)).toEqual({
      embedding: 1,
      rms_norm: 3,
      gemm: 9,
      causal_conv1d: 2,
      // A = −exp(A_log)
      unary: 4,
      selective_scan: 2,
    });
    model.dispose();
  });

  test('the loss and all gradients', () => {
    const backend = new PlanBackend();
    const model = smallModel(backend);
    backend.resetStatistics();
    scope(() => {
      valueAndGradients(
        model.parameters.map(({ tensor }) => tensor),
        () => model.loss(ids(backend, 2, 30), ids(backend, 2, 30)),
      );
    });
    expect(countByKernel(backend.launches)).toEqual(gradientLaunches);
    model.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
  });

  test('a training step', async () => {
    const backend = new PlanBackend();
    const run = new TinyRun(backend, { options: { accumulation: 1 } });
    backend.resetStatistics();
    await expect(run.trainer.trainStep()).rejects.toThrow(BackendError);
    expect(countByKernel(backend.launches)).toEqual({
      ...gradientLaunches,
      // Gradients are written where the optimiser wants them: by the products themselves for the eight projections, by their
      // own kernels for the embedding and the tied head, by copies for the rest.
      copy_rows: 10 + run.trainer.model.parameters.length - 9,
      scale_into: 1,
      multiply_in_place: 1,
      accumulate: 3,
      global_norm: 1,
    });
    // The step waits for loss and norm, which a plan has none of, before it updates.
    backend.resetStatistics();
    const norm = run.trainer.optimiser.gradientNorm();
    run.trainer.optimiser.update(1e-3, norm);
    norm.dispose();
    expect(countByKernel(backend.launches)).toEqual({ global_norm: 1, adamw_step: 1 });
    run.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
  });

  test('a layer more costs the same launches again, whatever the sizes', async () => {
    const counts: number[] = [];
    for (const [layers, dModel] of [[1, 20], [2, 64], [3, 16], [4, 768]] as const) {
      const backend = new PlanBackend();
      counts.push((await decodeStep(smallModel(backend, { layers, dModel }), backend)).length);
    }
    const [one = 0, two = 0] = counts;
    expect(counts).toEqual([0, 1, 2, 3].map((more) => one + more * (two - one)));
  });
});

describe('bytes', () => {
  test('a token of the 130m shape reads each weight once and little else', async () => {
    const backend = new PlanBackend();
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 50280, dModel: 768, layers: 24 }), backend, 0);
    const launches = await decodeStep(model, backend);
    const weights = 4 * countParameters(model.parameters);
    const [read, written] = [total(launches, 'bytesRead'), total(launches, 'bytesWritten')];
    expect(read).toBeGreaterThanOrEqual(weights);
    expect(read).toBeLessThan(1.02 * weights);
    // The state and the activations.
    expect(written).toBeLessThan(0.02 * weights);
    // A multiplication and an addition for each weight, and the scans.
    expect(total(launches, 'operations')).toBeGreaterThan(weights / 2);
    expect(total(launches, 'operations')).toBeLessThan(0.6 * weights);
  });

  test('the embedding reads the rows that are asked for, not the table', () => {
    const backend = new PlanBackend();
    const [vocabulary, columns] = [1000, 16];
    const bytesOf = (tokens: number) => {
      backend.resetStatistics();
      scope(() => embedding(idTensor(backend, new Int32Array(tokens), [tokens]), empty(backend, [vocabulary, columns]))).dispose();
      return backend.launches;
    };
    const cost = (tokens: number, rows: number) => ({ kernel: 'embedding', bytesRead: 4 * (tokens + rows * columns), bytesWritten: 4 * tokens * columns });
    expect(bytesOf(3)).toMatchObject([cost(3, 3)]);
    // No row is counted twice: what was read once is near.
    expect(bytesOf(5000)).toMatchObject([cost(5000, 1000)]);
  });
});
