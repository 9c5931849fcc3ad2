import { describe, expect, test } from 'vitest';
import * as elapid from '../../src/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { gpuIsHere, useBackend, useChangedGpu } from '../support/backends.js';
import { isNight } from '../support/rare-cases.js';
import { checkCase, listCases } from './agreement.js';

/** Cases of every form that goes through rows, few enough for a software GPU. */
const filter = /^(rms-norm \/ x and .*(5,768|64,65)|softmax \/ softmax of (7|1000) |reduction \/ max of e|sampling \/ a vocabulary|adamw \/ norm of 1)/;
const nightly = /^attention \/ q \[(2,3,2,8|2,65,2,32|1,130,1,128)\]/;

describe.runIf(gpuIsHere)('webgpu kernels of a GPU without subgroups agree with reference', () => {
  const gpu = useChangedGpu({ subgroups: null });
  const reference = useBackend('reference');

  test.each([...listCases(operations, false, filter), ...(isNight ? listCases(operations, false, nightly) : [])])('$name', async (listed) => {
    const { failures } = await checkCase(elapid, { gpu: gpu(), reference: reference() }, listed);
    expect(failures).toEqual([]);
  });
});
