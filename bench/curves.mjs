// Learning curves of the language families on one text, at equal time and equal parameters, those that a token uses.
//   node bench/curves.mjs TEXT OUT [--minutes 1.85] [--threads 2] [--at-once 1] [--only NAME,…]
// Each family has a folder in OUT. A second call goes on where the first was stopped, and leaves what is done; then all are drawn to OUT/curves.svg.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readMetrics } from '../dist/train/index.js';

/** About 1.82 million parameters each on bytes. */
const families = {
  mamba: ['--d-model', '256', '--layers', '4'],
  mamba2: ['--d-model', '256', '--layers', '4', '--set', 'dState=72'],
  transformer: ['--d-model', '192', '--layers', '4', '--set', 'heads=6'],
  bamba: ['--d-model', '192', '--layers', '4', '--set', 'dState=64', '--set', 'inner=360'],
  gru: ['--d-model', '270', '--layers', '4'],
  s4d: ['--d-model', '416', '--layers', '4'],
  s4: ['--d-model', '444', '--layers', '4'],
  'moe-mamba': ['--d-model', '256', '--layers', '2', '--set', 'experts=8'],
  'switch-transformer': ['--d-model', '192', '--layers', '4', '--set', 'heads=6'],
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '1.85' }, threads: { type: 'string', default: '2' }, 'at-once': { type: 'string', default: '1' }, only: { type: 'string' } },
});
const [text, out] = positionals;
if (text === undefined || out === undefined) throw new Error('expected a text and a folder for the runs');
const command = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const wanted = Object.entries(families).filter(([name]) => values.only === undefined || values.only.split(',').includes(name));
const folderOf = (/** @type {string} */ name) => join(out, name);

/** Minutes that a run has trained. @param {string} folder */
async function trained(folder) {
  if (!existsSync(join(folder, 'training.safetensors'))) return undefined;
  return ((await readMetrics(folder)).steps.at(-1)?.seconds ?? 0) / 60;
}

/** @param {string[]} words */
const elapid = (words) =>
  new Promise((resolve, reject) => {
    spawn(process.execPath, [command, ...words], { stdio: ['ignore', 'inherit', 'inherit'] }).on('error', reject).on('exit', (code) => {
      if (code === 0) resolve(undefined);
      else reject(new Error(`elapid ${words.join(' ')}: exit code ${String(code)}`));
    });
  });

/** @param {[name: string, sizes: string[]]} family */
async function train([name, sizes]) {
  const minutes = await trained(folderOf(name));
  if (minutes !== undefined && minutes >= Number(values.minutes)) return;
  const shared = ['--max-minutes', values.minutes, '--threads', values.threads];
  const begin = [text, '--out', folderOf(name), '--model', name, ...sizes, '--batch-size', '16', '--length', '256', '--learning-rate', '2e-3'];
  await elapid(['train', ...(minutes === undefined ? begin : ['--resume', folderOf(name)]), ...shared]);
}

const queue = [...wanted];
await Promise.all(
  Array.from({ length: Number(values['at-once']) }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await train(next);
  }),
);
await elapid(['plot', ...wanted.map(([name]) => folderOf(name)), '--x', 'minutes', '--out', join(out, 'curves.svg')]);
