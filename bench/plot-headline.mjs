// Draws what bench/headline.mjs and bench/gpu/headline.mjs measured: tokens a second over context, a chart for each file.
//   node bench/plot-headline.mjs FILE.json… --out FILE.svg
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { lineCharts } from '../dist/cli/line-chart.js';

/** @typedef {{ part: string; model: string; context?: number; tokensPerSecond?: number }} Row */

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
if (options.out === undefined || positionals.length === 0) throw new Error('node bench/plot-headline.mjs FILE.json… --out FILE.svg');

/** @param {number} x */
const power = (x) => (x >= 2 ** 20 ? `${x / 2 ** 20}M` : x >= 1024 ? `${x / 1024}K` : String(x));

const charts = positionals.map((file) => {
  const { machine, threads, rows } = /** @type {{ machine: { model?: string; gpu?: string; processor?: string }; threads?: number; rows: Row[] }} */ (JSON.parse(readFileSync(file, 'utf8')));
  const names = [...new Set(rows.map(({ model }) => model))];
  const curves = names.map((label, group) => {
    const own = rows.filter((row) => row.part === 'context' && row.model === label && row.tokensPerSecond !== undefined);
    return { label, group, points: own.map(({ context, tokensPerSecond }) => /** @type {const} */ ([Number(context), Number(tokensPerSecond)])) };
  });
  const where = machine.model ?? machine.gpu ?? `${threads ?? ''} threads of ${machine.processor ?? 'a CPU'}`;
  const title = `Tokens a second of one sequence: ${where.replace(/\s*\(.*/, '')}`;
  return { curves, axes: /** @type {const} */ ({ title, x: 'tokens of context', y: 'tokens a second', log: 'xy', xLabel: power, yLabel: String, dots: true }) };
});
writeFileSync(options.out, lineCharts(charts));
