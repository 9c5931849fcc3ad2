import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Vitest's global setup: the CLI's tests run dist/, so it must be what src/ gives. Builds it where it is older. */
export default function buildDist(): void {
  const built = modified(join(root, 'dist/cli/main.js'));
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).map((file) => join(root, 'src', file));
  const newest = Math.max(...[...sources, join(root, 'tsconfig.json')].map(modified));
  if (built < newest) execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
}

function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? -Infinity;
}
