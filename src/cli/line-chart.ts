import { scaleLinear, scaleLog } from 'd3-scale';
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

/** What runs along the sides of a chart. */
export interface Axes {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** First and last x; default: from 0 to the largest, of a logarithmic axis from the smallest. */
  readonly xRange?: readonly [number, number];
  /** Lowest and highest y; default: those of the points, but of a linear axis what is far above the rest at a curve's beginning is cut off. */
  readonly yRange?: readonly [number, number];
  /** Axes by powers of two. */
  readonly log?: 'x' | 'xy';
  /** How an x is written. */
  readonly xLabel?: (x: number) => string;
  /** How a y is written. */
  readonly yLabel?: (y: number) => string;
  /** Points are few: each gets a dot. */
  readonly dots?: boolean;
}

/** Curves with their axes. */
export interface Chart {
  readonly curves: readonly Curve[];
  readonly axes: Axes;
}

const width = 760;
const chartHeight = 400;
const margin = { left: 88, right: 24, top: 40, bottom: 48 };
const mostTicks = 8;
const plot = { x: [margin.left, width - margin.right], y: [chartHeight - margin.bottom, margin.top] } as const;
// Okabe and Ito's palette, distinguishable with any colour vision; dashes tell those apart that share a colour.
const colours = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'];
const dashes = ['', '8 3', '2 3'];

/** Line charts, one below the other, as an SVG document, readable on light and dark pages. One legend names the curves of all. */
export function lineCharts(charts: readonly Chart[]): string {
  const top = chartHeight * charts.length;
  const { svg, height } = legend(charts.flatMap(({ curves }) => curves), top);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top + height}" font-family="system-ui, sans-serif" font-size="12" fill="#333">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    // What is above the axis is cut off; half a line or dot may reach over its ends.
    `<clipPath id="plot"><rect x="${plot.x[0] - 4}" y="${plot.y[1] - 1}" width="${plot.x[1] - plot.x[0] + 8}" height="${plot.y[0] - plot.y[1] + 5}"/></clipPath>`,
    ...charts.flatMap((chart, i) => [`<g transform="translate(0 ${i * chartHeight})">`, ...drawn(chart), '</g>']),
    ...svg,
    '</svg>\n',
  ].join('\n');
}

function drawn({ curves, axes }: Chart): string[] {
  const points = curves.flatMap((curve) => curve.points);
  const [left, right] = plot.x;
  const [bottom, top] = plot.y;
  const x = xScale(points, axes);
  const y = yScale(curves, axes);
  const xTicks = x.ticks.map((tick) => text([x.place(tick), bottom + 18], x.label(tick), 'text-anchor="middle"'));
  const yTicks = y.ticks.map((tick) => {
    const at = y.place(tick).toFixed(1);
    const rule = `<line x1="${left}" x2="${right}" y1="${at}" y2="${at}" stroke="#ddd"/>`;
    return rule + text([left - 8, y.place(tick) + 4], y.label(tick), 'text-anchor="end"');
  });
  const path = line<readonly [number, number]>(
    ([value]) => x.place(value),
    ([, value]) => y.place(value),
  );
  // The last are drawn over the first: what is faint comes first, or it would hide the others.
  const inOrder = [...curves].sort((a, b) => Number(b.faint ?? false) - Number(a.faint ?? false));
  const lines = inOrder.map((curve) => {
    const dots = axes.dots === true ? curve.points.map(([a, b]) => `<circle cx="${x.place(a).toFixed(1)}" cy="${y.place(b).toFixed(1)}" r="3" fill="${colourOf(curve)}"/>`) : [];
    return [`<path d="${path(curve.points) ?? ''}" fill="none" ${strokeOf(curve)}/>`, ...dots].join('');
  });
  return [
    text([left, 22], axes.title, 'font-size="14" font-weight="600"'),
    ...yTicks,
    ...xTicks,
    text([(left + right) / 2, chartHeight - 12], axes.x, 'text-anchor="middle"'),
    text([0, 0], axes.y, `text-anchor="middle" transform="translate(16 ${(top + bottom) / 2}) rotate(-90)"`),
    '<g clip-path="url(#plot)">',
    ...lines,
    '</g>',
  ];
}

interface Scale {
  readonly place: (value: number) => number;
  readonly ticks: readonly number[];
  readonly label: (value: number) => string;
}

function xScale(points: readonly (readonly [number, number])[], { log, xRange, xLabel }: Axes): Scale {
  const xs = points.map(([value]) => value);
  const longest = xs.reduce((a, b) => Math.max(a, b), 1e-9);
  if (log !== undefined) {
    const range = xRange ?? [xs.reduce((a, b) => Math.min(a, b), longest), longest];
    return logScale(range, plot.x, xLabel);
  }
  const x = scaleLinear(xRange ?? [0, longest], plot.x);
  // Millions in figures would run into one another.
  return { place: x, ticks: x.ticks(mostTicks), label: xLabel ?? (longest >= 1e6 ? compact : x.tickFormat(mostTicks)) };
}

function yScale(curves: readonly Curve[], { log, yRange, yLabel }: Axes): Scale {
  const ys = curves.flatMap(({ points }) => points.map(([, value]) => value)).sort((a, b) => a - b);
  const [lowest = 0, highest = 1] = [ys[0], ys.at(-1)];
  // Room above and below: curves that stay as they are, are no part of the frame.
  if (log === 'xy') return logScale(yRange ?? [(lowest || 1) / 2, highest * 2], plot.y, yLabel);
  // The first steps' losses are far above the rest, and are cut off. Held-out losses stay in sight, even where training's fall to nothing.
  const kept = curves.filter(({ faint }) => faint !== true).flatMap(({ points }) => points.slice(Math.floor(points.length / 3)).map(([, value]) => value));
  const range = yRange ?? [lowest, Math.min(highest, Math.max(2 * (ys[Math.floor(ys.length / 2)] ?? 1), 1.1 * Math.max(...kept, 0)))];
  const y = scaleLinear(range, plot.y).nice();
  return { place: y, ticks: y.ticks(mostTicks), label: yLabel ?? y.tickFormat(mostTicks) };
}

function logScale([low, high]: readonly [number, number], range: readonly [number, number], label: (value: number) => string = compact): Scale {
  // One value alone has no range.
  const place = scaleLog(low < high ? [low, high] : [low / 2, low * 2], range);
  const [first, last] = place.domain().map(Math.log2) as [number, number];
  const step = Math.max(1, Math.ceil((Math.floor(last) - Math.ceil(first) + 1) / mostTicks));
  const ticks: number[] = [];
  for (let exponent = Math.ceil(first - 1e-9); exponent <= last + 1e-9; exponent += step) ticks.push(2 ** exponent);
  return { place, ticks, label };
}

const colourOf = ({ group }: Curve): string => colours[group % colours.length] ?? 'black';

function strokeOf(curve: Curve): string {
  const dash = dashes[Math.floor(curve.group / colours.length) % dashes.length] ?? '';
  const style = curve.faint === true ? 'stroke-width="1" stroke-opacity="0.4"' : 'stroke-width="2"';
  return `stroke="${colourOf(curve)}" ${style}${dash === '' ? '' : ` stroke-dasharray="${dash}"`}`;
}

const key = { length: 24, gap: 8, between: 24, row: 20 };
/** Of a letter at most, on average. */
const letterWidth = 7.4;

/** What each curve is, in rows below the charts. Curves of one group and name are one, shown as the boldest. */
function legend(curves: readonly Curve[], top: number): { svg: string[]; height: number } {
  const entries = new Map<string, Curve>();
  for (const curve of curves) {
    const name = `${curve.group} ${curve.label}`;
    if (entries.get(name)?.faint !== false) entries.set(name, curve);
  }
  const named = [...entries.values()];
  let [at, row] = [margin.left, 0];
  const svg = named.map((curve) => {
    const length = key.length + key.gap + letterWidth * curve.label.length;
    if (at > margin.left && at + length > width - margin.right) [at, row] = [margin.left, row + 1];
    const y = top + key.row * row + 12;
    const entry = `<line x1="${at.toFixed(1)}" x2="${(at + key.length).toFixed(1)}" y1="${y - 4}" y2="${y - 4}" ${strokeOf(curve)}/>`;
    const label = text([at + key.length + key.gap, y], curve.label);
    at += length + key.between;
    return entry + label;
  });
  return { svg, height: key.row * (row + 1) + 8 };
}

const text = (at: readonly [number, number], content: string, attributes = ''): string =>
  `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" ${attributes}>${escapeXml(content)}</text>`;

function escapeXml(content: string): string {
  return content.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
