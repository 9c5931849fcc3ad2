// Draws what bench/lengths.mjs and bench/gpu/lengths.mjs measured: time of forward and backward over length, a chart for each file.
//   node bench/plot-lengths.mjs FILE.json… --out FILE.svg
// A slope is that of the last four doublings: 1 is linear, 2 quadratic.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { lineCharts } from '../dist/cli/line-chart.js';

/** @typedef {{ operation: string; what: string; length: number; forwardBackwardMs?: number }} Row */

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
if (options.out === undefined || positionals.length === 0) throw new Error('node bench/plot-lengths.mjs FILE.json… --out FILE.svg');

/** @param {readonly (readonly [number, number])[]} points */
function slopeOf(points) {
  const [first, last] = [points.at(-5) ?? points[0], points.at(-1)];
  if (first === undefined || last === undefined || first === last) return NaN;
  return Math.log(last[1] / first[1]) / Math.log(last[0] / first[0]);
}

/** @param {number} x */
const power = (x) => (x >= 2 ** 20 ? `${x / 2 ** 20}M` : x >= 1024 ? `${x / 1024}K` : String(x));
/** @param {number} ms */
const time = (ms) => (ms >= 1000 ? `${Number((ms / 1000).toPrecision(3))} s` : ms >= 1 ? `${ms} ms` : `${1000 * ms} µs`);

const groups = ['scan', 'attention', 'convolution'];
const charts = positionals.map((file) => {
  const { machine, threads, rows } = /** @type {{ machine: { model?: string; gpu?: string; processor?: string }; threads?: number; rows: Row[] }} */ (JSON.parse(readFileSync(file, 'utf8')));
  const operations = groups.filter((group) => rows.some(({ operation }) => operation === group));
  const curves = operations.map((operation) => {
    const own = rows.filter((row) => row.operation === operation && row.forwardBackwardMs !== undefined);
    const points = own.map(({ length, forwardBackwardMs }) => /** @type {const} */ ([length, Number(forwardBackwardMs)]));
    const on = machine.gpu === undefined ? 'CPU' : 'GPU';
    console.log(`${on}, ${own[0]?.what ?? operation}: slope ${slopeOf(points).toFixed(2)}`);
    return { label: `${operation}, ${on}: slope ${slopeOf(points).toFixed(2)}`, points, group: groups.indexOf(operation) };
  });
  const where = machine.model ?? machine.gpu ?? `${threads ?? ''} threads of ${machine.processor ?? 'a CPU'}`;
  const title = `Forward and backward, one sequence: ${where.replace(/\s*\(.*/, '')}`;
  return { curves, axes: /** @type {const} */ ({ title, x: 'positions', y: 'time', log: 'xy', xLabel: power, yLabel: time, dots: true }) };
});
writeFileSync(options.out, lineCharts(charts));
