import { describe, test } from 'vitest';
import { absenceNote, sharedFixture } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { evalFixtures, expectEvalGoldens } from '../support/eval-goldens.js';

describe.each(['auto', 'wasm'] as const)('all items of the goldens of tasks, on %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels, poison: false });
  const absent = evalFixtures.some((path) => sharedFixture(path) === undefined);

  test.skipIf(absent)(`scores, choices and figures${absenceNote(...evalFixtures)}`, () => expectEvalGoldens(backend(), 16));
});
