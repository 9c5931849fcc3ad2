import { expect, test } from 'vitest';
import * as elapid from '../../src/index.js';
import { gemmInto } from '../../src/ops/matmul/gemm.js';
import { gpuIsHere } from '../support/backends.js';
import { isNight } from '../support/rare-cases.js';
import { largeProductErrors, largeTolerance } from './large-products.js';

// What a GPU is given at full size by scripts/test-webgpu.mjs; a test of the night, like other products that take long to compile.
test.runIf(gpuIsHere && isNight)('the forms of large products, small', async () => {
  const errors = await largeProductErrors(elapid, gemmInto, 8, 'f32');
  expect(errors).toHaveLength(6);
  for (const { form, error } of errors) expect(error, form).toBeLessThan(largeTolerance);
});
