import { describe, test } from 'vitest';
import { absenceNote, sharedFixture } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { evalFixtures, expectEvalGoldens } from '../support/eval-goldens.js';

describe('the first items of the goldens of tasks', () => {
  const backend = useBackend('cpu', { kernels: 'auto', poison: false });
  const absent = evalFixtures.some((path) => sharedFixture(path) === undefined);

  // All of them: npm run test:nightly.
  test.skipIf(absent)(`scores, choices and figures${absenceNote(...evalFixtures)}`, () => expectEvalGoldens(backend(), 3));
});
