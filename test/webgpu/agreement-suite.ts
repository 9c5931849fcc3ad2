import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as elapid from '../../src/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { gpuIsHere } from '../support/backends.js';
import { isRareOnGpu } from '../support/rare-cases.js';
import { checkCase, listCases } from './agreement.js';

/**
 * Declares the tests of the operations whose folders match. A software GPU takes minutes to compile the kernels of some: files of
 * their own run beside one another.
 */
export function agreementSuite(folders: RegExp): void {
  describe.runIf(gpuIsHere)('webgpu kernels agree with reference', () => {
    let gpu: elapid.Backend;
    let reference: elapid.Backend;
    beforeAll(async () => {
      gpu = await elapid.openBackend('webgpu', { poison: true });
      reference = await elapid.openBackend('reference');
    });
    afterAll(() => Promise.all([gpu.close(), reference.close()]));

    test.each(listCases(operations, false, folders).filter(({ name }) => !isRareOnGpu(name)))('$name', async (listed) => {
      const { failures } = await checkCase(elapid, { gpu, reference }, listed);
      expect(failures).toEqual([]);
    });
  });
}
