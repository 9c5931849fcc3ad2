import { scaleLinear } from 'd3-scale';
import { line } from 'd3-shape';
import { compact } from './format.js';

/** A curve of a chart. */
export interface Curve {
  readonly label: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Thin and pale: a noisy quantity behind its smooth neighbour. */
  readonly faint?: boolean;
  /** Curves of one group share a colour. */
  readonly group: number;
}

const size = { width: 760, height: 420, left: 56, right: 16, top: 40, bottom: 44 };
// Okabe and Ito's palette, distinguishable with any colour vision.
const colours = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'];

/** What runs along the sides of a chart. */
export interface Axes {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** First and last x; default: from 0 to the largest. */
  readonly xRange?: readonly [number, number];
  /** Lowest and highest y; default: those of the points, but what is above twice the median is cut off. */
  readonly yRange?: readonly [number, number];
  /** How an x is written. */
  readonly xLabel?: (x: number) => string;
}

/** A line chart as an SVG document, readable on light and dark pages. */
export function lineChart(curves: readonly Curve[], axes: Axes): string {
  const points = curves.flatMap((curve) => curve.points);
  const xs = points.map(([value]) => value);
  const ys = points.map(([, value]) => value).sort((a, b) => a - b);
  const { width, height, left, right } = size;
  const longest = xs.reduce((a, b) => Math.max(a, b), 1e-9);
  const x = scaleLinear(axes.xRange ?? [0, longest], [left, width - right]);
  // Millions in figures would run into one another.
  const xLabel = axes.xLabel ?? (longest >= 1e6 ? compact : x.tickFormat(8));
  // The first steps' losses are far above the rest.
  const [low, high] = axes.yRange ?? [ys[0] ?? 0, Math.min(ys.at(-1) ?? 1, 2 * (ys[Math.floor(ys.length / 2)] ?? 1))];
  const y = scaleLinear([low, high], [height - size.bottom, size.top]).nice().clamp(true);
  const path = line<readonly [number, number]>(
    ([value]) => x(value),
    ([, value]) => y(value),
  );
  const text = (at: [number, number], content: string, attributes = '') =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" ${attributes}>${escapeXml(content)}</text>`;
  const xTicks = x.ticks(8).map((tick) => text([x(tick), height - size.bottom + 18], xLabel(tick), 'text-anchor="middle"'));
  const yTicks = y.ticks(8).map((tick) => {
    const at = y(tick);
    const rule = `<line x1="${left}" x2="${width - right}" y1="${at.toFixed(1)}" y2="${at.toFixed(1)}" stroke="#ddd"/>`;
    return rule + text([left - 8, at + 4], y.tickFormat(8)(tick), 'text-anchor="end"');
  });
  const colour = (group: number) => colours[group % colours.length] ?? 'black';
  const lines = curves.map(({ points: own, faint, group }) => {
    const style = faint === true ? 'stroke-width="1" stroke-opacity="0.35"' : 'stroke-width="2"';
    return `<path d="${path(own) ?? ''}" fill="none" stroke="${colour(group)}" ${style}/>`;
  });
  const legend = curves.map(({ label, group, faint }, i) => {
    const at = size.top + 16 + 18 * i;
    const opacity = faint === true ? '0.35' : '1';
    const key = `<line x1="${width - 250}" x2="${width - 226}" y1="${at - 4}" y2="${at - 4}" stroke="${colour(group)}" stroke-width="2" stroke-opacity="${opacity}"/>`;
    return key + text([width - 220, at], label);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#333">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text([left, 22], axes.title, 'font-size="14" font-weight="600"'),
    ...yTicks,
    ...xTicks,
    text([(left + width - right) / 2, height - 8], axes.x, 'text-anchor="middle"'),
    text([0, 0], axes.y, `text-anchor="middle" transform="translate(14 ${(size.top + height - size.bottom) / 2}) rotate(-90)"`),
    ...lines,
    ...legend,
    '</svg>\n',
  ].join('\n');
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
