import { expect, test } from 'vitest';
import * as operations from '../../src/ops/all-cases.js';
import { agreementSuite } from './agreement-suite.js';
import { listCases } from './agreement.js';

const elsewhere = '(matmul|packed|cross-entropy|selective-scan) ';
agreementSuite(new RegExp(`^(?!${elsewhere})`));

test('the other files have the rest', () => {
  const parts = [elsewhere, `(?!${elsewhere})`].map((part) => listCases(operations, false, new RegExp(`^${part}`)).length);
  expect((parts[0] as number) + (parts[1] as number)).toBe(listCases(operations, false).length);
});
