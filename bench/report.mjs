// Writes README's figures from the newest files in bench/results: npm run bench:report
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gpuSection, section, withSection } from './lib/report.mjs';
import { newestResults } from './lib/results.mjs';

const path = fileURLToPath(new URL('../README.md', import.meta.url));
for (const [kind, write] of /** @type {const} */ ([['cpu', section], ['gpu', gpuSection]])) {
  const newest = newestResults(kind);
  if (newest === undefined) throw new Error(`bench/results has no results of the ${kind} yet (bench/README.md)`);
  writeFileSync(path, withSection(readFileSync(path, 'utf8'), write(newest.results, newest.file), kind));
  console.log(`README.md shows ${newest.file}`);
}
