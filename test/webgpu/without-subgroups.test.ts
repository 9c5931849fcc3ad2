import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openGpuDevice } from '../../src/backend/webgpu/device.js';
import { WebGpuBackend } from '../../src/backend/webgpu/webgpu-backend.js';
import * as elapid from '../../src/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { gpuIsHere } from '../support/backends.js';
import { checkCase, listCases } from './agreement.js';

/** Cases of every form that goes through rows, few enough for a software GPU. */
const filter = /^(rms-norm \/ x and .*(5,768|64,65)|softmax \/ softmax of (7|1000) |reduction \/ max of e|sampling \/ a vocabulary|adamw \/ norm of 1)/;

describe.runIf(gpuIsHere)('webgpu kernels of a GPU without subgroups agree with reference', () => {
  let gpu: elapid.Backend;
  let reference: elapid.Backend;
  beforeAll(async () => {
    const device = await openGpuDevice();
    gpu = new WebGpuBackend({ ...device, features: { ...device.features, subgroups: null } }, { poison: true });
    reference = await elapid.openBackend('reference');
  });
  afterAll(() => Promise.all([gpu.close(), reference.close()]));

  test.each(listCases(operations, false, filter))('$name', async (listed) => {
    const { failures } = await checkCase(elapid, { gpu, reference }, listed);
    expect(failures).toEqual([]);
  });
});
