// The committed results.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../results/', import.meta.url));

/**
 * The CPU's or the GPU's results of the latest date; of equals, the last by name. Undefined where there are none.
 * @param {'cpu' | 'gpu'} [kind] what the file's name begins with
 * @returns {{file: string, results: import('./report.mjs').Results} | undefined}
 */
export function newestResults(kind = 'cpu') {
  if (!existsSync(folder)) return undefined;
  const all = readdirSync(folder)
    .filter((name) => name.startsWith(`${kind}-`) && name.endsWith('.json'))
    .map((name) => {
      /** @type {import('./report.mjs').Results} */
      const results = JSON.parse(readFileSync(folder + name, 'utf8'));
      return { file: `bench/results/${name}`, results };
    });
  const order = (/** @type {typeof all[number]} */ { file, results }) => `${results.machine.date} ${file}`;
  return all.sort((a, b) => (order(a) < order(b) ? -1 : 1)).at(-1);
}
