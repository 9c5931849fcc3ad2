import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';

/** A folder for the tests of a `describe` block, made before them and deleted after them; gives paths inside of it. */
export function useFolder(): (...segments: string[]) => string {
  let folder: string | undefined;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'elapid-test-'));
  });
  afterAll(() => {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  return (...segments) => {
    if (folder === undefined) throw new Error('useFolder: called outside of a test');
    return join(folder, ...segments);
  };
}
