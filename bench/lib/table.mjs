// Results as text, for a terminal.

/** @typedef {Awaited<ReturnType<typeof import('./row.mjs').runRow>>} Result */

const number = (/** @type {number | null | undefined} */ value) => (value === null || value === undefined ? '–' : String(value));
const percent = (/** @type {number | null} */ share) => (share === null ? '–' : `${(100 * share).toFixed(0)} %`);
const widths = [30, 10, 8, 20, 10, 8, 10, 7];

const line = (/** @type {string[]} */ cells) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' ');

/** @param {readonly Result[]} results @param {{header?: boolean}} [options] */
export function table(results, { header = false } = {}) {
  const lines = results.map((result) => {
    if ('skipped' in result) return `${line([result.name])} skipped: ${result.skipped}`;
    const { name, ours, spread, unit, peer, ratio, limit, limitShare } = result;
    const times = ratio === null ? '–' : `${ratio.toPrecision(3)}×`;
    return line([name, number(ours), unit, `${spread.join('…')}`, number(peer), times, number(limit), percent(limitShare)]);
  });
  if (header) lines.unshift(line(['row', 'ours', 'unit', 'spread', 'peer', 'ratio', 'limit', 'share']));
  return lines.join('\n');
}
