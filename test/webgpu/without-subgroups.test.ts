import { describe, expect, test } from 'vitest';
import * as elapid from '../../src/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { gpuIsHere, useBackend, useChangedGpu } from '../support/backends.js';
import { checkCase, listCases } from './agreement.js';

/** Cases of every form that goes through rows, few enough for a software GPU. */
const filter = /^(rms-norm \/ x and .*(5,768|64,65)|softmax \/ softmax of (7|1000) |reduction \/ max of e|sampling \/ a vocabulary|adamw \/ norm of 1|attention \/ q \[2,3,2,8\])/;

describe.runIf(gpuIsHere)('webgpu kernels of a GPU without subgroups agree with reference', () => {
  const gpu = useChangedGpu({ subgroups: null });
  const reference = useBackend('reference');

  test.each(listCases(operations, false, filter))('$name', async (listed) => {
    const { failures } = await checkCase(elapid, { gpu: gpu(), reference: reference() }, listed);
    expect(failures).toEqual([]);
  });
});
