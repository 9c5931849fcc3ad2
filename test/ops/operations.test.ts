import { describe, expect, test } from 'vitest';
import { operationCases } from '../../src/ops/all-cases.js';
import type { OperationCase } from '../../src/ops/cases.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { isRareOnCpu } from '../support/rare-cases.js';
import { centralDifferences, runCase, type CaseResult } from '../support/cases.js';

const operations = Object.entries(operationCases).map(([folder, cases]) => ({
  folder,
  cases: cases.filter(({ name }) => !isRareOnCpu(`${folder} / ${name}`)),
}));

const reference = useBackend('reference');
const expectations = new Map<OperationCase, Promise<CaseResult>>();
const expected = (operationCase: OperationCase): Promise<CaseResult> => {
  const known = expectations.get(operationCase) ?? runCase(reference(), operationCase);
  expectations.set(operationCase, known);
  return known;
};

describe.each(operations)('$folder', ({ cases }) => {
  describe('reference: gradients are the slopes of the forward pass', () => {
    test.each(cases.filter(({ large }) => large !== true))('$name', async (operationCase) => {
      const { gradients } = await expected(operationCase);
      const slopes = await centralDifferences(reference(), operationCase, 12);
      for (const [name, found] of slopes) {
        const gradient = Float64Array.from(gradients.get(name) ?? []);
        const scale = gradient.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-3);
        for (const { element, slope } of found) {
          const error = Math.abs(slope - (gradient[element] ?? NaN)) / scale;
          expect(error, `d${name}[${element}]: ${String(gradient[element])}, slope ${slope}`).toBeLessThan(2e-5);
        }
      }
    });
  });

  describe.each(compiledKernels)('%s kernels agree with reference', (kernels) => {
    const backend = useBackend('cpu', { kernels });
    test.each(cases)('$name', async (operationCase) => {
      const right = await expected(operationCase);
      const actual = await runCase(backend(), operationCase);
      const limit = tolerance(operationCase.reductionLength, operationCase.rounding);
      actual.outputs.forEach((values, i) => {
        expectClose(values, right.outputs[i] ?? [], limit, `output ${i}`);
      });
      for (const [name, values] of actual.gradients) expectClose(values, right.gradients.get(name) ?? [], limit, `d${name}`);
      expect(backend().statistics().liveBuffers, 'live buffers').toBe(0);
    });
  });
});
