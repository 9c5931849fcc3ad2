import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { lineCharts } from '../../src/cli/line-chart.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

/** Of each path its colour, whether it is faint, and its points. */
const pathsOf = (svg: string) =>
  [...svg.matchAll(/<path d="([^"]*)" fill="none" stroke="(#\w+)"([^/]*)\/>/g)].map(([, d = '', colour, style = '']) => ({
    colour,
    faint: style.includes('stroke-opacity'),
    dash: /dasharray="([^"]*)"/.exec(style)?.[1],
    points: d.split(/[ML]/).slice(1).map((point) => point.split(',').map(Number)),
  }));
/** The legend's entries: what stands below all charts. */
const legendOf = (svg: string) => [...svg.slice(svg.lastIndexOf('</g>')).matchAll(/stroke="(#\w+)"[^]*?>([^<>]+)<\/text>/g)].map(([, colour, label]) => [colour, label]);

describe('elapid plot of several runs', () => {
  const path = useFolder();

  /** A run of `count` steps, with a held-out loss after each tenth. */
  function writeRun(name: string, count: number, { tokens, pace, evaluations = true }: { tokens: number; pace: number; evaluations?: boolean }): void {
    mkdirSync(path(name), { recursive: true });
    const lines = Array.from({ length: count }, (_, i) => {
      const [step, seconds] = [i + 1, (i + 1) * pace];
      const measured = { step, loss: 2 + 1 / step, gradientNorm: 1, learningRate: 1e-3, tokens, tokensPerSecond: tokens / pace, seconds };
      const due = evaluations && step % (count / 10) === 0;
      return [measured, ...(due ? [{ step, validationLoss: 2.1 + 1 / step, validationTokens: 9, seconds }] : [])];
    });
    writeFileSync(path(name, 'metrics.jsonl'), lines.flat().map((line) => `${JSON.stringify(line)}\n`).join(''));
  }

  beforeAll(() => {
    writeRun('runs/mamba', 1000, { tokens: 100, pace: 0.06 });
    writeRun('runs/gru', 400, { tokens: 200, pace: 0.15 });
    writeRun('others/gru', 200, { tokens: 200, pace: 0.15, evaluations: false });
  });

  // Where the curves of the three runs end, of the longest.
  test.each([
    { x: 'steps', ends: [1, 0.4, 0.2] },
    { x: 'minutes', ends: [1, 1, 0.5] },
    { x: 'tokens', ends: [1, 0.8, 0.4] },
  ])('by $x', async ({ x, ends }) => {
    const runs = ['runs/mamba', 'runs/gru', 'others/gru'].map((name) => path(name));
    const { code, stderr } = await runHere('plot', ...runs, '--x', x, '--out', path(`${x}.svg`));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const svg = readFileSync(path(`${x}.svg`), 'utf8');
    const paths = pathsOf(svg);
    const [blue, red, green] = ['#0072B2', '#D55E00', '#009E73'];
    expect(paths.map(({ colour, faint }) => [colour, faint])).toEqual([[blue, true], [red, true], [green, true], [blue, false], [red, false]]);
    const endOf = (of: string | undefined, faint: boolean) => paths.find((one) => one.colour === of && one.faint === faint)?.points.at(-1)?.[0];
    for (const [i, colour] of [blue, red, green].entries()) {
      const end = 88 + (736 - 88) * (ends[i] ?? NaN);
      expect(endOf(colour, true)).toBeCloseTo(end, 2);
      if (i < 2) expect(endOf(colour, false)).toBeCloseTo(end, 2);
    }
    // Means of neighbours, where there are many.
    expect(paths[0]?.points.length).toBeLessThanOrEqual(150);
    expect(legendOf(svg)).toEqual([[blue, 'mamba'], [red, 'runs/gru'], [green, 'others/gru']]);
    expect(svg).toContain('>Loss: held out (thick), training (thin)<');
  });

  test('one run has its two curves in the legend', async () => {
    expect((await runHere('plot', path('runs/mamba'), '--out', path('one.svg'))).code).toBe(0);
    expect(legendOf(readFileSync(path('one.svg'), 'utf8')).map(([, label]) => label)).toEqual(['training', 'held out']);
  });
});

describe('line charts', () => {
  const axes = { title: 'T', x: 'x', y: 'y' } as const;

  test.each([
    { log: undefined, points: [[0, 1], [5, 2], [10, 1.5]], x: [88, 412, 736] },
    { log: 'x' as const, points: [[4, 1], [16, 2], [64, 1.5]], x: [88, 412, 736] },
    { log: 'xy' as const, points: [[1024, 1], [2048, 4096], [4096, 8]], x: [88, 412, 736] },
  ])('place points by their axes: $log', ({ log, points, x }) => {
    const svg = lineCharts([{ curves: [{ label: 'a', points: points as [number, number][], group: 0 }], axes: { ...axes, ...(log === undefined ? {} : { log }) } }]);
    const placed = pathsOf(svg)[0]?.points ?? [];
    placed.forEach(([at], i) => expect(at).toBeCloseTo(x[i] ?? NaN, 1));
    // 1 and 4096 with room of a factor of two on both sides: 14 doublings.
    if (log === 'xy') expect(placed.map(([, y]) => y)).toEqual([352 - 312 / 14, 352 - (312 * 13) / 14, 352 - (312 * 4) / 14].map((y) => expect.closeTo(y, 1) as number));
  });

  test.each([[0.01, 0.2], [0.5, 0.6], [0.001, 3]])('show what was held out, where training falls to %d and that ends at %d', (training, heldOut) => {
    const falling = (last: number): [number, number][] => Array.from({ length: 40 }, (_, i) => [i, i < 4 ? 10 : last]);
    const curves = [{ label: 'training', points: falling(training), faint: true, group: 0 }, { label: 'held out', points: falling(heldOut), group: 0 }];
    for (const { points } of pathsOf(lineCharts([{ curves, axes }]))) {
      const [, y = NaN] = points.at(-1) ?? [];
      expect(y).toBeGreaterThan(40);
      expect(y).toBeLessThanOrEqual(352);
    }
    // The first steps' losses are cut off.
    expect(pathsOf(lineCharts([{ curves, axes }]))[0]?.points[0]?.[1]).toBeLessThan(0);
  });

  test('name curves of one group and name once, and tell the seventh colour by dashes', () => {
    const curves = Array.from({ length: 8 }, (_, group) => ({ label: `<run ${group}>`, points: [[1, 1], [2, 2]] as [number, number][], group }));
    const svg = lineCharts([{ curves, axes }, { curves, axes }]);
    expect(legendOf(svg).map(([, label]) => label)).toEqual(curves.map(({ group }) => `&lt;run ${group}&gt;`));
    expect(pathsOf(svg).map(({ dash }) => dash)).toEqual([0, 1].flatMap(() => [...Array.from({ length: 6 }, () => undefined), '8 3', '8 3']));
    // The legend takes two rows below both charts.
    expect(svg).toMatch(/viewBox="0 0 760 848"/);
  });

  test.each([
    { points: [] },
    { points: [[1024, 4096]] },
    { points: [[1024, 4096], [2048, 4096]] },
  ])('of few points: $points', ({ points }) => {
    for (const log of [undefined, 'x', 'xy'] as const) {
      const svg = lineCharts([{ curves: [{ label: 'a', points: points as [number, number][], group: 0 }], axes: { ...axes, ...(log === undefined ? {} : { log }) } }]);
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
  });
});
