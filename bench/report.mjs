// Writes README's figures from the newest file in bench/results: npm run bench:report
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { section, withSection } from './lib/report.mjs';
import { newestResults } from './lib/results.mjs';

const path = fileURLToPath(new URL('../README.md', import.meta.url));
const newest = newestResults();
if (newest === undefined) throw new Error('bench/results has no results yet: npm run bench -- --json bench/results/NAME.json');
const { file, results } = newest;
writeFileSync(path, withSection(readFileSync(path, 'utf8'), section(results, file)));
console.log(`README.md shows ${file}`);
