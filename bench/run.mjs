// Measures elapid and its peers in alternation, and what the machine allows, in one run: see bench/README.md.
//   npm run bench -- [--json FILE] [--only row,row] [--quick] [--threads N] [--kernels avx2] [--list]
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine } from './lib/machine.mjs';
import { useKernels } from './lib/ours.mjs';
import { buildProbe } from './lib/probe.mjs';
import { runRow } from './lib/row.mjs';
import { table } from './lib/table.mjs';
import { rows } from './rows/index.mjs';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    only: { type: 'string' },
    quick: { type: 'boolean', default: false },
    threads: { type: 'string', default: '2' },
    kernels: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});

useKernels(options.kernels);
const patterns = options.only?.split(',');
// A name chooses its row, or all rows that begin with it.
const chosen = rows.filter(({ name }) => patterns?.some((pattern) => name.startsWith(pattern)) ?? true);
const unknown = patterns?.filter((pattern) => !rows.some(({ name }) => name.startsWith(pattern))) ?? [];
if (unknown.length > 0) throw new Error(`no row begins with ${unknown.join(', ')}; --list shows them`);

if (options.list) {
  for (const { name, what } of rows) console.log(`${name.padEnd(28)} ${what}`);
} else {
  const context = { threads: Number(options.threads), quick: options.quick };
  const problem = await buildProbe();
  if (problem !== undefined) console.error(`no limits: ${problem}`);
  const machine = await describeMachine(context.threads);
  console.log(`${machine.processor}, ${machine.kernels}, Node ${machine.node}\n`);
  const results = [];
  for (const row of chosen) {
    const start = performance.now();
    const result = await runRow(row, context);
    results.push(result);
    console.log(`${table([result])}  (${((performance.now() - start) / 1e3).toFixed(0)} s)`);
    // Row by row: a run that is interrupted leaves what it measured.
    if (options.json !== undefined) {
      mkdirSync(dirname(options.json), { recursive: true });
      writeFileSync(options.json, `${JSON.stringify({ machine, quick: context.quick, threads: context.threads, rows: results }, null, 2)}\n`);
    }
  }
  console.log(`\n${table(results, { header: true })}`);
}
