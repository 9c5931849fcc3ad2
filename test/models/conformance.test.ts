/** What every model family does on every backend. A family more is a row of `test/support/families.ts`. */
import { describe } from 'vitest';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { families } from '../support/families.js';
import { isNight } from '../support/rare-cases.js';
import { checkAdapters } from './conformance/adapters.js';
import { checkCheckpoints } from './conformance/checkpoints.js';
import { checkDocuments } from './conformance/documents.js';
import { checkGradients } from './conformance/gradients.js';
import { checkLaunches } from './conformance/launches.js';
import { checkSequences } from './conformance/sequences.js';
import { checkStates } from './conformance/states.js';
import { subjectOf } from './conformance/subject.js';
import { checkTraining } from './conformance/training.js';

const runs = [
  { name: 'reference', kind: 'reference' as const, options: {} },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels } })),
  // A software GPU compiles for minutes. By day it has the goldens of each family.
  ...(isNight && gpuIsHere ? [{ name: 'webgpu', kind: 'webgpu' as const, options: {} }] : []),
];

describe.each(runs)('on $name', ({ kind, options }) => {
  const backend = useBackend(kind, options);
  const reference = useBackend('reference');

  describe.each(families)('$name', (row) => {
    describe.each(row.variants)('$options', (variant) => {
      const subject = subjectOf({ row, variant, kind, backend, reference });
      describe('sequences', () => { checkSequences(subject); });
      describe('documents', () => { checkDocuments(subject); });
      describe('states', () => { checkStates(subject); });
      describe('gradients', () => { checkGradients(subject); });
      describe('adapters', () => { checkAdapters(subject); });
      describe('checkpoints', () => { checkCheckpoints(subject); });
      // The reference backend takes long for it, and its gradients are those of all.
      if (kind !== 'reference') describe('training', () => { checkTraining(subject); });
    });
  });
});

describe.each(compiledKernels)('launches on %s', (kernels) => {
  // Poison would be launches of its own.
  const backend = useBackend('cpu', { kernels, poison: false });

  describe.each(families)('$name', (row) => {
    describe.each(row.variants)('$options', (variant) => { checkLaunches(subjectOf({ row, variant, kind: 'cpu', backend, reference: backend })); });
  });
});
