// Draws a run from the lines of its metrics.jsonl, which the server sends as they are: those there are, then those to come.
// @ts-check

/** @typedef {{ steps: number[], values: number[] }} Series */

/**
 * @typedef {object} ChartOptions
 * @property {string} title
 * @property {boolean} [wide]
 * @property {boolean} [logarithmic]
 * @property {boolean} [fromZero]
 * @property {boolean} [cutPeaks] whether what is above twice the median is cut off: the first steps are far above the rest
 * @property {boolean} [exact] whether the curve is drawn as it is, without a mean
 * @property {(value: number) => string} format
 * @property {{ label: string, series: Series, colour: string, dots?: boolean }[]} curves
 */

/** @returns {Series} */
const newSeries = () => ({ steps: [], values: [] });
const series = {
  loss: newSeries(),
  validationLoss: newSeries(),
  gradientNorm: newSeries(),
  learningRate: newSeries(),
  tokensPerSecond: newSeries(),
  lossScale: newSeries(),
  auxiliaryLoss: newSeries(),
  dropped: newSeries(),
};
/** @type {{ step: number, text: string }[]} */
let divergences = [];
/** @type {{ step: number, prompt: string, sample: string }[]} */
let samples = [];
let seconds = 0;
let totalSteps = 0;
/** The step under the pointer, in any chart; null where there is none. @type {number | null} */
let pointed = null;

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const mostTextsShown = 50;

/** @param {number} value */
const short = (value) => Number(value.toPrecision(4)).toString();
/** @param {number} value */
const grouped = (value) => Math.round(value).toLocaleString('en-US');

const stepsDone = () => Math.max(series.loss.steps.at(-1) ?? 0, series.validationLoss.steps.at(-1) ?? 0, divergences.at(-1)?.step ?? 0);

/** @type {ChartOptions[]} */
const options = [
  {
    title: 'Loss, nats a token',
    wide: true,
    cutPeaks: true,
    format: (value) => value.toFixed(3),
    curves: [
      { label: 'training', series: series.loss, colour: '--line' },
      { label: 'held out', series: series.validationLoss, colour: '--held', dots: true },
    ],
  },
  { title: 'Gradient norm', logarithmic: true, format: short, curves: [{ label: '', series: series.gradientNorm, colour: '--line' }] },
  { title: 'Learning rate', fromZero: true, exact: true, format: (value) => value.toExponential(2), curves: [{ label: '', series: series.learningRate, colour: '--line' }] },
  { title: 'Tokens a second', fromZero: true, format: grouped, curves: [{ label: '', series: series.tokensPerSecond, colour: '--line' }] },
  { title: 'Loss scale', logarithmic: true, exact: true, format: short, curves: [{ label: '', series: series.lossScale, colour: '--line' }] },
  { title: 'Auxiliary losses, sum', fromZero: true, format: short, curves: [{ label: '', series: series.auxiliaryLoss, colour: '--line' }] },
  { title: 'Tokens dropped by experts', fromZero: true, format: (value) => `${(100 * value).toFixed(1)} %`, curves: [{ label: '', series: series.dropped, colour: '--line' }] },
];

/** The values of a curve, averaged over a fiftieth of its length: the course behind the noise. @param {readonly number[]} values */
function smoothed(values) {
  const reach = Math.floor(values.length / 100);
  const sums = [0];
  for (const value of values) sums.push(/** @type {number} */ (sums.at(-1)) + value);
  return values.map((_, i) => {
    // At the beginning as many on either side, so that a steep slope stays one; at the end those there are.
    const before = Math.min(reach, i);
    const after = Math.min(before, values.length - 1 - i);
    return (/** @type {number} */ (sums[i + after + 1]) - /** @type {number} */ (sums[i - before])) / (before + after + 1);
  });
}

/** Steps of 1, 2 or 5 times a power of ten, about `count` of them. @param {number} low @param {number} high @param {number} count */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => each * power >= rough) ?? 10;
  const step = factor * power;
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9) + 1e-300; i++) all.push(i * step);
  return all;
}

/** @param {number} low @param {number} high */
function logarithmicTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const factor of high / low > 100 ? [1] : [1, 2, 5]) all.push(factor * 10 ** power);
  }
  return all.filter((tick) => tick >= low && tick <= high);
}

/** The index of the last step that is at most `step`. @param {readonly number[]} steps @param {number} step */
function indexAt(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {number} */ (steps[middle]) <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

class Chart {
  /** @param {ChartOptions} chartOptions */
  constructor(chartOptions) {
    this.options = chartOptions;
    this.card = document.createElement('section');
    this.card.className = chartOptions.wide ? 'chart wide' : 'chart';
    const head = document.createElement('header');
    const title = document.createElement('h2');
    title.textContent = chartOptions.title;
    head.append(title);
    this.values = chartOptions.curves.map(({ label, colour }) => {
      const shown = document.createElement('span');
      shown.className = 'value';
      if (label !== '') {
        const key = document.createElement('span');
        key.className = 'key';
        key.style.background = `var(${colour})`;
        shown.append(key, `${label} `);
      }
      const value = document.createElement('b');
      shown.append(value);
      head.append(shown);
      return { shown, value };
    });
    this.at = document.createElement('span');
    this.at.className = 'at';
    head.append(this.at);
    this.canvas = document.createElement('canvas');
    this.card.append(head, this.canvas);
    /** From a horizontal position to a step. @type {(x: number) => number} */
    this.stepAt = () => 0;
    this.canvas.addEventListener('pointermove', ({ offsetX }) => point(this.stepAt(offsetX)));
    this.canvas.addEventListener('pointerleave', () => point(null));
  }

  /** @returns {boolean} whether there is anything to show */
  get filled() {
    return this.options.curves.some(({ series: { values } }) => values.length > 0);
  }

  draw() {
    this.card.hidden = !this.filled;
    if (!this.filled) return;
    const { curves, logarithmic = false, fromZero = false, cutPeaks = false, exact = false, format } = this.options;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.canvas.getContext('2d');
    if (context === null || width === 0) return;
    const scale = devicePixelRatio;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    /** @param {string} name */
    const colour = (name) => style.getPropertyValue(name);

    const values = curves.flatMap(({ series: one }) => one.values).filter((value) => Number.isFinite(value) && (!logarithmic || value > 0));
    const sorted = Float64Array.from(values).sort();
    let low = fromZero ? 0 : (sorted[0] ?? 0);
    let high = sorted[sorted.length - 1] ?? 1;
    if (cutPeaks) high = Math.min(high, 2 * (sorted[sorted.length >> 1] ?? high));
    // Six powers of ten at most: a value next to nothing would leave no room for the others.
    if (logarithmic) [low, high] = [Math.max(low, high / 1e6) / 1.15, high * 1.15];
    else if (!fromZero) [low, high] = [low - 0.06 * (high - low), high + 0.06 * (high - low)];
    else high *= 1.1;
    if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    const lastStep = Math.max(1, stepsDone());
    const firstStep = Math.min(...curves.map(({ series: { steps } }) => steps[0] ?? lastStep));
    const [left, right, top, bottom] = [58, width - 8, 8, height - 22];
    const span = Math.max(1, lastStep - firstStep);
    /** @param {number} step */
    const x = (step) => left + ((step - firstStep) / span) * (right - left);
    const place = logarithmic ? Math.log : (/** @type {number} */ value) => value;
    const [from, to] = [place(low), place(high)];
    /** @param {number} value */
    const y = (value) => bottom - ((place(logarithmic ? Math.max(low, value) : value) - from) / (to - from)) * (bottom - top);
    this.stepAt = (at) => Math.round(firstStep + ((at - left) / (right - left)) * span);

    context.font = '11px system-ui, sans-serif';
    context.lineWidth = 1;
    context.fillStyle = colour('--muted');
    context.strokeStyle = colour('--grid');
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const tick of logarithmic ? logarithmicTicks(low, high) : ticks(low, high, height / 45)) {
      const at = Math.round(y(tick)) + 0.5;
      context.beginPath();
      context.moveTo(left, at);
      context.lineTo(right, at);
      context.stroke();
      const text = Math.abs(tick) >= 1e4 ? grouped(tick) : tick !== 0 && Math.abs(tick) < 1e-3 ? tick.toExponential(0) : short(tick);
      context.fillText(text, left - 8, at);
    }
    context.textBaseline = 'alphabetic';
    for (const tick of ticks(firstStep, lastStep, Math.max(2, width / 80))) {
      if (!Number.isInteger(tick)) continue;
      context.textAlign = x(tick) > right - 20 ? 'right' : 'center';
      context.fillText(grouped(tick), x(tick), height - 6);
    }

    context.save();
    context.beginPath();
    context.rect(left, top, right - left + 4, bottom - top + 1);
    context.clip();
    for (const { step } of divergences) vertical(context, x(step), top, bottom, colour('--alarm'), [4, 3]);
    for (const { series: one, colour: name, dots = false } of curves) {
      const plain = dots || exact;
      if (!plain) drawRange(context, one, x, y, colour('--faint'));
      drawLine(context, one.steps, plain ? one.values : smoothed(one.values), x, y, colour(name));
      if (!dots) continue;
      context.fillStyle = colour(name);
      one.steps.forEach((step, i) => {
        context.beginPath();
        context.arc(x(step), y(/** @type {number} */ (one.values[i])), 2.5, 0, 2 * Math.PI);
        context.fill();
      });
    }
    if (pointed !== null) vertical(context, x(pointed), top, bottom, colour('--muted'), []);
    context.restore();

    this.at.textContent = pointed === null ? '' : `step ${grouped(pointed)}`;
    curves.forEach(({ series: { steps, values: all } }, i) => {
      const value = pointed === null ? all.at(-1) : all[indexAt(steps, pointed)];
      const shown = this.values[i];
      if (shown === undefined) return;
      shown.shown.hidden = all.length === 0;
      shown.value.textContent = value === undefined ? '–' : format(value);
    });
  }
}

/**
 * @param {CanvasRenderingContext2D} context @param {number} x @param {number} top @param {number} bottom
 * @param {string} colour @param {number[]} dash
 */
function vertical(context, x, top, bottom, colour, dash) {
  context.save();
  context.strokeStyle = colour;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(Math.round(x) + 0.5, top);
  context.lineTo(Math.round(x) + 0.5, bottom);
  context.stroke();
  context.restore();
}

/**
 * From the lowest to the highest value of every pixel, so that a peak of a single step is seen however many steps there are.
 * @param {CanvasRenderingContext2D} context @param {Series} one
 * @param {(step: number) => number} x @param {(value: number) => number} y @param {string} colour
 */
function drawRange(context, { steps, values }, x, y, colour) {
  context.strokeStyle = colour;
  context.lineJoin = 'round';
  context.beginPath();
  for (let i = 0; i < steps.length; ) {
    const column = Math.round(x(/** @type {number} */ (steps[i])));
    let [low, high] = [Infinity, -Infinity];
    for (; i < steps.length && Math.round(x(/** @type {number} */ (steps[i]))) === column; i++) {
      low = Math.min(low, /** @type {number} */ (values[i]));
      high = Math.max(high, /** @type {number} */ (values[i]));
    }
    context.lineTo(column, y(high));
    context.lineTo(column, y(low));
  }
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context @param {readonly number[]} steps @param {readonly number[]} values
 * @param {(step: number) => number} x @param {(value: number) => number} y @param {string} colour
 */
function drawLine(context, steps, values, x, y, colour) {
  context.save();
  context.strokeStyle = colour;
  context.lineWidth = 1.75;
  context.lineJoin = 'round';
  context.beginPath();
  let last = -Infinity;
  steps.forEach((step, i) => {
    const at = x(step);
    // Half a pixel is as much as can be seen.
    if (at - last < 0.5 && i < steps.length - 1) return;
    last = at;
    context.lineTo(at, y(/** @type {number} */ (values[i])));
  });
  context.stroke();
  context.restore();
}

const charts = options.map((each) => new Chart(each));
element('charts').append(...charts.map(({ card }) => card));

let due = false;
function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const step = stepsDone();
    const of = totalSteps > 0 ? ` of ${grouped(totalSteps)}` : '';
    element('progress').textContent = step > 0 ? `step ${grouped(step)}${of} · ${duration(seconds)} of training` : 'no step yet';
    element('done').hidden = totalSteps === 0;
    element('bar').style.width = totalSteps > 0 ? `${(100 * step) / totalSteps}%` : '0';
    for (const chart of charts) chart.draw();
  });
}

/** @param {number | null} step */
function point(step) {
  const last = series.loss.steps.at(-1);
  pointed = step === null || last === undefined ? null : Math.min(last, Math.max(series.loss.steps[0] ?? 0, step));
  redraw();
}

/** @param {number} all */
function duration(all) {
  const whole = Math.round(all);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : minutes > 0 ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** Forgets the lines from `step` on. @param {number} step */
function forget(step) {
  for (const { steps, values } of Object.values(series)) {
    const kept = indexAt(steps, step - 1) + 1;
    steps.length = kept;
    values.length = kept;
  }
  divergences = divergences.filter((each) => each.step < step);
  samples = samples.filter((each) => each.step < step);
}

/** @param {string} text a line of metrics.jsonl */
function take(text) {
  /** @type {Record<string, unknown>} */
  let line;
  try {
    line = JSON.parse(text);
  } catch {
    // A process that was killed left half a line.
    return;
  }
  const { step } = line;
  if (typeof step !== 'number') return;
  // A run that was resumed makes the steps after its checkpoint again.
  if (('loss' in line || 'divergence' in line) && step <= stepsDone()) forget(step);
  const { auxiliaryLosses, measures } = /** @type {{ auxiliaryLosses?: Record<string, number>, measures?: { dropped?: number[] } }} */ (line);
  const sum = (/** @type {number[]} */ values) => values.reduce((total, value) => total + value, 0);
  /** @type {Record<string, unknown>} */
  const numbers = {
    ...line,
    auxiliaryLoss: auxiliaryLosses && sum(Object.values(auxiliaryLosses)),
    dropped: measures?.dropped && sum(measures.dropped) / measures.dropped.length,
  };
  for (const [name, { steps, values }] of Object.entries(series)) {
    const value = numbers[name];
    if (typeof value !== 'number') continue;
    steps.push(step);
    values.push(value);
  }
  if (typeof line['seconds'] === 'number') seconds = line['seconds'];
  if (typeof line['divergence'] === 'string') divergences.push({ step, text: `${line['skipped'] === true ? 'Left out' : 'Stopped'}: ${line['divergence']}` });
  if (typeof line['sample'] === 'string') samples.push({ step, prompt: String(line['prompt'] ?? ''), sample: line['sample'] });
}

function showTexts() {
  element('divergences').hidden = divergences.length === 0;
  element('divergences').replaceChildren(
    ...divergences
      .slice(-mostTextsShown)
      .reverse()
      .map(({ text }) => {
        const item = document.createElement('li');
        item.textContent = text;
        return item;
      }),
  );
  element('texts').hidden = samples.length === 0;
  element('samples').replaceChildren(
    ...samples
      .slice(-mostTextsShown)
      .reverse()
      .map(({ step, prompt, sample }) => {
        const item = document.createElement('li');
        const at = document.createElement('span');
        at.className = 'step';
        at.textContent = `step ${grouped(step)}`;
        const text = document.createElement('pre');
        const given = document.createElement('span');
        given.className = 'prompt';
        given.textContent = prompt;
        text.append(given, sample);
        item.append(at, text);
        return item;
      }),
  );
}

/** @param {string} text @param {boolean} live */
function status(text, live) {
  element('status').textContent = text;
  element('status').classList.toggle('live', live);
}

function connect() {
  const source = new EventSource('metrics');
  source.addEventListener('run', ({ data }) => {
    const { folder, steps } = /** @type {{ folder: string, steps?: number }} */ (JSON.parse(data));
    totalSteps = steps ?? 0;
    element('name').textContent = folder;
    document.title = folder;
    status('connected', true);
    redraw();
  });
  source.addEventListener('restart', () => {
    forget(0);
    showTexts();
    redraw();
  });
  source.addEventListener('message', ({ data }) => {
    const [lastSample, lastDivergence] = [samples.at(-1), divergences.at(-1)];
    for (const line of String(data).split('\n')) take(line);
    if (samples.at(-1) !== lastSample || divergences.at(-1) !== lastDivergence) showTexts();
    redraw();
  });
  source.addEventListener('end', () => status('the run has ended', false));
  source.addEventListener('error', () => {
    if (element('status').classList.contains('live')) status('disconnected', false);
    // Some browsers give up when nobody listens; a run that is resumed listens again, at the same address.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  });
}

connect();
addEventListener('resize', redraw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
