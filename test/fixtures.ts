import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * The absolute path of a file of `../shared/fixtures` (beside the repository, not in it), or undefined where it is absent.
 * @throws Error where it is absent and CI=true: there, a skipped test is a failure
 */
export const sharedFixture = (path: string): string | undefined => shared(`fixtures/${path}`);

/** The same of `../shared/cases`: small inputs that once failed, with the right answers. */
export const sharedCase = (path: string): string | undefined => shared(`cases/${path}`);

function shared(path: string): string | undefined {
  const file = fileURLToPath(new URL(`../../shared/${path}`, import.meta.url));
  if (existsSync(file)) return file;
  if (process.env['CI'] === 'true') throw new Error(`../shared/${path} is absent, and under CI=true no test may skip`);
  return undefined;
}

/** What to append to the title of a test that `skipIf`s on these fixtures: says which are absent, or nothing. */
export function absenceNote(...paths: string[]): string {
  const absent = paths.filter((path) => sharedFixture(path) === undefined);
  return absent.length === 0 ? '' : ` [skipped: ../shared/fixtures lacks ${absent.join(', ')}]`;
}
