import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as elapid from '../../src/index.js';
import * as operations from '../../src/ops/all-cases.js';
import type { GpuFeatures } from '../../src/tensor/index.js';
import { gpuIsHere } from '../support/backends.js';
import { checkCase, listCases } from './agreement.js';

/** Cases of every form that goes through rows, few enough for a software GPU. */
const filter = /^(rms-norm \/ x and .*(5,768|64,65)|softmax \/ softmax of (7|1000) |reduction \/ max of e|sampling \/ a vocabulary|adamw \/ norm of 1)/;

describe.runIf(gpuIsHere)('webgpu kernels of a GPU without subgroups agree with reference', () => {
  let gpu: elapid.Backend;
  let reference: elapid.Backend;
  beforeAll(async () => {
    gpu = await elapid.openBackend('webgpu', { poison: true });
    reference = await elapid.openBackend('reference');
    const seen = gpu as unknown as { features: GpuFeatures };
    seen.features = { ...seen.features, subgroups: null };
  });
  afterAll(() => Promise.all([gpu.close(), reference.close()]));

  test.each(listCases(operations, false, filter))('$name', async (listed) => {
    const { failures } = await checkCase(elapid, { gpu, reference }, listed);
    expect(failures).toEqual([]);
  });
});
